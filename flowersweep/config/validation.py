"""What a training or a sweep is, as frozen dataclasses: the types that every composed configuration must have."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from flowersweep.config.paths import Settings, flatten
from flowersweep.config.registry import slot_of
from flowersweep.config.schema import SCALING, Config
from flowersweep.config.targets import require_name
from flowersweep.errors import ConfigError

# path: (smallest, largest) value that makes sense; what is not named here is checked by whoever uses it
LIMITS: dict[str, tuple[float, float]] = {
    "model.dropout": (0, 0.95),
    "model.ensemble_loss": (0, 10),
    "data.image_size": (8, 4096),
    "data.cache_bytes": (0, math.inf),
    "data.disk_cache_bytes": (0, math.inf),
    "cluster.hosts": (1, math.inf),
    "cluster.host": (0, math.inf),
    "loss.label_smoothing": (0, 0.9),
    "loss.gamma": (0, 20),
    "loss.beta": (0, 0.999999),  # float32 has no room above it
    "loss.tau": (0, 10),
    "augment.flip": (0, 1),
    "augment.crop": (0, 0.95),
    "augment.aspect": (0, 4),
    "augment.zoom": (0, 0.9),
    "augment.shift": (0, 0.5),
    "augment.rotation": (0, 45),
    "augment.hue": (0, 0.5),
    "augment.saturation": (0, 1),
    "augment.contrast": (0, 1),
    "augment.brightness": (0, 1),
    "augment.cutout": (0, 1),
    "augment.mix_probability": (0, 1),
    "augment.mixup_alpha": (0, 10),
    "augment.cutmix_alpha": (0.01, 10),
    "augment.cutmix_share": (0, 1),
    "schedule.warmup": (0, 1),
    "schedule.start": (0, 1),
    "schedule.minimum": (0, 1),
    "schedule.sustain": (0, 1),
    "schedule.half_life": (1e-4, 1e4),
    "train.head_epochs": (0, math.inf),
    "train.head_learning_rate": (0, math.inf),
    "train.epochs": (1, math.inf),
    "train.steps_per_epoch": (1, math.inf),
    "train.batch_per_replica": (1, math.inf),
    "train.learning_rate": (0, math.inf),
    "train.weight_decay": (0, math.inf),
    "train.backbone_rate": (0, math.inf),
    "train.clip_norm": (1e-9, math.inf),
    "train.ema_half_life": (0, 10),
    "train.accumulate": (1, math.inf),
    "train.checkpoint_seconds": (0, math.inf),
    "sweep.n_trials": (1, math.inf),
    "sweep.segment_epochs": (1, math.inf),
    "ensemble.top": (1, math.inf),
    "sweep.keep": (1, math.inf),
    "sweep.workers": (1, math.inf),
    "promotion.top": (0, math.inf),
    "promotion.seeds": (2, math.inf),
    "sweep.budget.minutes": (0, math.inf),
    "sweep.budget.bytes": (1, math.inf),
    "seed": (0, 2**31 - 1),
    "data.split_seed": (0, 2**31 - 1),
    "port": (1, 65535),
    "views": (1, 6),
}


CHOICES = {
    "sweep.objective": ("tune/calibrated_nll", "tune/nll", "tune/macro_f1", "tune/accuracy"),  # never report: it is held out
    "ensemble.pooling": ("linear", "geometric"),
    "sweep.repeats": ("replicate", "reuse"),
    "engine": ("optuna", "keras_tuner"),
    "split": ("val", "test"),
    "train.rate_scaling": tuple(SCALING),
}


def validate(config: Config) -> Config:
    """Return the configuration, or raise one ConfigError that lists everything wrong with it."""
    leaves = dict(flatten(config))
    problems = [problem for path, value in leaves.items() if (problem := _problem(path, value))]
    for group in ("loss", "schedule", "augment"):
        problems += [f"{path}: expected a number, got {value!r}" for path, value in leaves.items() if _wrong(group, path, value)]
    problems += [*_wrong_objectives(config.sweep.objectives), *_wrong_targets(leaves)]
    cluster, verb = config.cluster, str((config.verb or {}).get("_target_", "train"))
    if cluster.coordinator is not None and "." not in verb and verb not in ("train", "search", "config"):
        problems.append(f"cluster.coordinator: several hosts train and search together; leave it out for {verb}")
    if cluster.coordinator is None and cluster.hosts > 1:
        problems.append("cluster.hosts: several hosts need cluster.coordinator=ADDRESS:PORT, of host 0")
    if cluster.coordinator != "auto" and cluster.host >= cluster.hosts:
        problems.append(f"cluster.host={cluster.host}: hosts are counted from 0, and cluster.hosts={cluster.hosts}")
    if cluster.coordinator is not None and (uses_workers(config) or uses_threads(config)):
        problems.append(
            "cluster.coordinator: hosts that train one trial together have no workers for others: sweep.workers=1 executor=local"
        )
    if problems:
        raise ConfigError("; ".join(problems))
    if config.sweep.objectives:
        return dataclasses.replace(config, sweep=dataclasses.replace(config.sweep, objective=config.sweep.objectives[0]))
    return config


def uses_workers(config: Config) -> bool:
    """Say whether trials are trained by workers, and not in this process."""
    target = config.executor.get("_target_", "local")
    return target not in ("local", "threads") or (target == "local" and config.sweep.workers > 1)


def never_prunes(config: Config) -> bool:
    """Say whether every trial runs to its end."""
    return config.pruner.get("_target_") == "optuna.pruners.NopPruner"


def uses_threads(config: Config) -> bool:
    """Say whether several trials are trained beside each other in this process."""
    return config.sweep.workers > 1 and config.executor.get("_target_") == "threads"


def _wrong_objectives(names: list[str]) -> list[str]:
    known = CHOICES["sweep.objective"]
    if not names or (len({*names}) == len(names) > 1 and names[0] in known and {*names} <= {*known, "time"}):
        return []
    return [f"sweep.objectives={names}: must be two or more of {', '.join(known)} and time, which must not be the first"]


def _wrong_targets(leaves: Settings) -> list[str]:
    """What is wrong with the names of callables: a module path of ours, an unknown name, or a place where nothing is called."""
    problems = []
    for path, target in leaves.items():
        if path.rpartition(".")[2] != "_target_" or target is None:
            continue
        if (slot := slot_of(path)) is None:
            problems.append(f"{path}={target!r}: an argument is plain data, and names nothing that is built or called")
            continue
        try:
            require_name(str(target), slot)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _problem(path: str, value: Any) -> str | None:
    if path == "study" and value is not None and not re.fullmatch(r"\w[\w.-]*", value):
        return f"study={value!r}: must be letters, digits, dots, dashes and underscores, for it names a folder"
    if path in CHOICES and value not in CHOICES[path]:
        return f"{path}={value}: must be one of {', '.join(CHOICES[path])}"
    if path not in LIMITS or value is None or isinstance(value, str):
        return None
    low, high = LIMITS[path]
    wanted = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    return None if low <= value <= high else f"{path}={value}: must be {wanted}"


def _wrong(group: str, path: str, value: Any) -> bool:
    """Whether a hyperparameter of a loss or schedule, which the step takes as a number, is none."""
    key = path.removeprefix(f"{group}.")
    if key == path or key in ("name", "_target_"):
        return False
    return isinstance(value, bool) or not isinstance(value, int | float)
