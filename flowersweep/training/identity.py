"""When two configurations are one and the same training: which values make another key irrelevant,
and the identity that is left.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from flowersweep.config.keys import is_within, settings_with_role
from flowersweep.config.paths import Settings
from flowersweep.config.registry import REGISTRY
from flowersweep.config.schema import AUGMENT_RANGES, MIXING_SHAPES, Experiment
from flowersweep.config.setting import TRAINED

# at 0 an image stays as it is
STRENGTHS = tuple(key for key in AUGMENT_RANGES if key not in MIXING_SHAPES)
LATER = ("vertical_flip", "quarter_turns", "randaugment", "erasing", "grid_mask")
FINE_TUNING = (
    "train.head_epochs",
    "train.head_learning_rate",
    "train.backbone_lr_multiplier",
    "train.batch_statistics",
    "train.layer_decay",
    "train.frozen_share",
    "model.lora_rank",
    "model.drop_path",
)
PLAIN_EPOCHS = ("train.epochs_before_augment", "train.epochs_after_augment")
PSEUDO = ("train.pseudo_weight", "train.pseudo_threshold")
# key -> its value in studies from before there was such a key
NEWER_KEYS: dict[str, Any] = {
    "data.folds": 1,
    "data.extra": [],
    "runtime.precision": "float32",
    "runtime.remat": False,
    "train.layer_decay": 1,
    "train.min_class_images": 0,
    "train.frozen_share": 0,
    "model.preset": None,
    "model.pooling": "auto",
    "model.image_size": None,
    "model.lora_rank": None,
    "model.drop_path": 0,
    **dict.fromkeys(PLAIN_EPOCHS, 0),
    **{f"augment.{strength}": 0 for strength in LATER},
}

# path, its value, and what does not count then
INERT_SETTINGS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    *((key, value, (key,)) for key, value in NEWER_KEYS.items()),
    ("data.pseudo_labels", None, ("data.pseudo_labels", *PSEUDO)),
    ("train.pseudo_weight", 0, ("train.pseudo_threshold",)),
    ("train.finetune", False, ("augment", "runtime.remat", *FINE_TUNING)),
    ("train.frozen_share", 1, ("train.backbone_lr_multiplier", "train.layer_decay")),
    ("train.head_epochs", 0, ("train.head_learning_rate",)),
    ("schedule.warmup", 0, ("schedule.warmup_start_factor",)),
    ("schedule.final_factor", 1, ("schedule.half_life",)),
    (
        "augment.mix_probability",
        0,
        ("augment.mixup_alpha", "augment.cutmix_alpha", "augment.cutmix_share"),
    ),
    ("augment.cutmix_share", 0, ("augment.cutmix_alpha",)),
    ("augment.cutmix_share", 1, ("augment.mixup_alpha",)),
    ("optimizer.momentum", 0, ("optimizer.nesterov",)),
)


def identity(config: Experiment, replicas: int, images: str = "") -> str:
    """Return a hash that two configurations share if and only if they are the same training on so
    many replicas.

    ``images`` is the digest of the images, where a study has several.
    """
    return hashlib.sha256(
        json.dumps([canonical(config, replicas), images], sort_keys=True, default=str).encode()
    ).hexdigest()[:16]


def canonical(config: Experiment, replicas: int) -> Settings:
    """Return the settings that count, by dotted path: no labels, and nothing that has no effect
    given the others.

    A focal loss with gamma 0 is cross entropy, since only the name tells them apart.
    """
    leaves = settings_with_role(config, TRAINED)
    idle = [
        each
        for path, value, idles in INERT_SETTINGS
        if leaves.get(path) == value and _known(leaves, path)
        for each in idles
    ]
    if sum(leaves[key] for key in PLAIN_EPOCHS) >= leaves["train.epochs"] or (
        _known(leaves, "augment.")
        and all(not leaves.get(f"augment.{strength}") for strength in STRENGTHS)
    ):
        idle.append("augment")
    if "augment" in idle:
        idle += PLAIN_EPOCHS
    if replicas == 1:
        idle.append("train.lr_scaling")
    return {path: _number(value) for path, value in leaves.items() if not is_within(path, *idle)}


def _known(leaves: Settings, path: str) -> bool:
    """Whether the callable that a path belongs to is one whose numbers we know."""
    group = path.split(".")[0]
    target = str(leaves.get(f"{group}._target_") or "")
    ours = not target or target in REGISTRY[group]
    return ours or target.startswith("keras.optimizers.")


def _number(value: Any) -> Any:
    # 0 is 0.0
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
