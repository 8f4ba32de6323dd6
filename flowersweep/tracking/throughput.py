"""Compute from a journal a training's speed and the settings that identify it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from flowersweep.config.batches import global_batch, steps_of_epoch
from flowersweep.config.keys import is_within, role_of
from flowersweep.config.schema import Train
from flowersweep.config.setting import LABEL, TRAINED
from flowersweep.study.events import StudyStarted


def settings_of_one(study: StudyStarted) -> dict[str, Any]:
    """Return the settings that tell a single training from others.

    They are the options of its groups, and each setting of its command by its short name.
    """
    config = study.config
    named = {
        group: config[group]["name"]
        for group in config
        if role_of(group) is TRAINED and _is_named(config[group])
    }
    assignments = (word.lstrip("+~").partition("=") for word in study.overrides)
    settings = {
        key: value
        for key, _, value in assignments
        if value and key not in named and role_of(key) in (TRAINED, LABEL)
    }
    short = [key.rpartition(".")[2] for key in settings]
    clear = [short.count(name) == 1 and name not in named for name in short]
    names = [
        name if unique else key for name, key, unique in zip(short, settings, clear, strict=True)
    ]
    return {**named, **dict(zip(names, settings.values(), strict=True))}


def _is_named(group: Any) -> bool:
    return isinstance(group, Mapping) and bool(group.get("name"))


def images_per_second(
    study: StudyStarted, settings: Mapping[str, Any], ends: Mapping[int, float]
) -> float | None:
    """Return training images per second of the main stage, evaluation included.

    The value is the median over the stage's epochs except the first.

    Args:
        study: The first event of the study.
        settings: Settings of the trial that override the study's.
        ends: Time at which each epoch ended, in seconds.

    Returns:
        None if there are too few epochs, or the journal lacks the number of images.
    """
    provenance = study.provenance
    changed = {
        path.removeprefix("train."): value
        for path, value in settings.items()
        if is_within(path, "train")
    }
    images = provenance.get("data", {}).get("counts", {}).get("train")
    settings_of_train = {**study.config.get("train", {}), **changed}
    if not images or not settings_of_train.get("batch_per_replica"):
        return None
    train = Train(**settings_of_train)
    batch = global_batch(train, images, provenance.get("replicas", 1))
    head = train.all_epochs - train.epochs
    steps = steps_of_epoch(train, head, images, batch)
    durations = [ends[b] - ends[a] for a, b in pairwise(sorted(ends)) if b == a + 1 and a > head]
    typical = median(durations) if durations else 0.0
    return round(steps * batch / typical, 1) if typical > 0 else None
