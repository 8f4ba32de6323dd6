"""What a journal says of a training between the lines: how fast it was, and by which settings single trainings are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from flowersweep.study.events import StudyStarted

GROUPS = ("model", "data", "loss", "augment", "schedule", "optimizer", "train")
# words that do not say what is trained
APART = (
    "verb",
    "study",
    "dir",
    "progress",
    "tracking",
    "sweep",
    "sampler",
    "pruner",
    "trusted_modules",
    "data.dir",
    "data.fetch",
    "cluster",
)


def settings_of_one(study: StudyStarted) -> dict[str, Any]:
    """Return what tells a single training from others: the options of its groups, and each setting of its command by its short name."""
    config = study.config
    named = {group: config[group]["name"] for group in GROUPS if isinstance(config.get(group), Mapping) and config[group].get("name")}
    words = (word.lstrip("+~").partition("=") for word in study.overrides)
    given = {key: value for key, _, value in words if value and key not in named and not key.startswith(APART)}
    short = [key.rpartition(".")[2] for key in given]
    clear = [short.count(name) == 1 and name not in named for name in short]
    names = [name if alone else key for name, key, alone in zip(short, given, clear, strict=True)]
    return {**named, **dict(zip(names, given.values(), strict=True))}


def images_per_second(study: StudyStarted, settings: Mapping[str, Any], ends: Mapping[int, float]) -> float | None:
    """Return the training images a second of the main stage, scoring after each epoch included: the median over its epochs but the first.

    ``ends`` has the times in seconds at which epochs ended. None if there are too few, or the journal does not say how many images.
    """
    known = study.provenance
    train = {
        **study.config.get("train", {}),
        **{path[6:]: value for path, value in settings.items() if path.startswith("train.")},
    }
    images, per_replica = known.get("data", {}).get("counts", {}).get("train"), train.get("batch_per_replica")
    if not images or not per_replica:
        return None
    batch = per_replica * known.get("replicas", 1)
    steps = min(images // batch, train.get("steps_per_epoch") or images // batch)
    head = train.get("head_epochs", 0) if train.get("finetune") else 0
    lasted = [ends[b] - ends[a] for a, b in pairwise(sorted(ends)) if b == a + 1 and a > head]
    typical = median(lasted) if lasted else 0.0
    return round(steps * batch / typical, 1) if typical > 0 else None
