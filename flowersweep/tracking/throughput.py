"""What a journal says of a training between the lines: how fast it was, and by which settings single trainings are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from flowersweep.config.keys import is_within, role_of
from flowersweep.config.schema import LABEL, TRAINED
from flowersweep.study.events import StudyStarted


def settings_of_one(study: StudyStarted) -> dict[str, Any]:
    """Return what tells a single training from others: the options of its groups, and each setting of its command by its short name."""
    config = study.config
    named = {
        group: config[group]["name"]
        for group in config
        if role_of(group) is TRAINED and _is_named(config[group])
    }
    words = (word.lstrip("+~").partition("=") for word in study.overrides)
    given = {
        key: value
        for key, _, value in words
        if value and key not in named and role_of(key) in (TRAINED, LABEL)
    }
    short = [key.rpartition(".")[2] for key in given]
    clear = [short.count(name) == 1 and name not in named for name in short]
    names = [name if alone else key for name, key, alone in zip(short, given, clear, strict=True)]
    return {**named, **dict(zip(names, given.values(), strict=True))}


def _is_named(group: Any) -> bool:
    return isinstance(group, Mapping) and bool(group.get("name"))


def images_per_second(
    study: StudyStarted, settings: Mapping[str, Any], ends: Mapping[int, float]
) -> float | None:
    """Return the training images a second of the main stage, scoring after each epoch included: the median over its epochs but the first.

    ``ends`` has the times in seconds at which epochs ended. None if there are too few, or the journal does not say how many images.
    """
    known = study.provenance
    train = {
        **study.config.get("train", {}),
        **{
            path.removeprefix("train."): value
            for path, value in settings.items()
            if is_within(path, "train")
        },
    }
    images, per_replica = (
        known.get("data", {}).get("counts", {}).get("train"),
        train.get("batch_per_replica"),
    )
    if not images or not per_replica:
        return None
    batch = per_replica * known.get("replicas", 1)
    steps = min(images // batch, train.get("steps_per_epoch") or images // batch)
    head = train.get("head_epochs", 0) if train.get("finetune") else 0
    lasted = [ends[b] - ends[a] for a, b in pairwise(sorted(ends)) if b == a + 1 and a > head]
    typical = median(lasted) if lasted else 0.0
    return round(steps * batch / typical, 1) if typical > 0 else None
