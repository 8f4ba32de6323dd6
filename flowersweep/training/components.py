"""The parts of a training step that a configuration names: loss, optimizer, augmentation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from flowersweep.config.schema import Experiment
from flowersweep.config.targets import arguments, resolve
from flowersweep.errors import ConfigError
from flowersweep.training.folds import judged_rows, pooled_labels
from flowersweep.training.step import StepComponents

if TYPE_CHECKING:
    from flowersweep.data.dataset import Dataset


def make_components(
    config: Experiment,
    schedule: Callable[..., Any],
    dataset: Dataset,
    *,
    trusted: Sequence[str],
    folds: int,
) -> StepComponents:
    """Return the parts of a step. Raises ConfigError for what is missing or refuses its arguments.

    Args:
        config: Names all of them but the schedule.
        schedule: The schedule of the stage.
        dataset: Where the loss gets the images of each class from.
        trusted: The user's own modules.
        folds: What the training is judged by.
    """
    named = config.augment.get("_target_")
    return StepComponents(
        _make_loss(config, dataset, trusted, folds),
        schedule,
        _make_optimizer(config, trusted),
        resolve(config.augment, "augment", trusted) if named else None,
        **static_settings(config),
    )


def static_settings(config: Experiment) -> dict[str, Any]:
    """Return what a step is made of besides its callables."""
    train = config.train
    return {
        "averaging": train.ema_half_life > 0,
        "clipping": train.gradient_clip_norm is not None,
        "accumulate": train.gradient_accumulation_steps,
        "batch_statistics": train.batch_statistics,
        "remat": train.finetune and config.runtime.remat,
    }


def _make_optimizer(config: Experiment, trusted: Sequence[str]) -> Any:
    try:
        return resolve(config.optimizer, "optimizer", trusted)(**arguments(config.optimizer))
    except ValueError as error:
        raise ConfigError(f"optimizer: {error}") from error


def _make_loss(
    config: Experiment, dataset: Dataset, trusted: Sequence[str], folds: int
) -> Callable[..., Any]:
    """Return the loss. If it has a parameter ``class_counts``, it is given the training images of
    each class, float32 (K,); with folds, their mean over the heads.
    """
    loss = resolve(config.loss, "loss", trusted)
    if "class_counts" not in inspect.signature(loss).parameters:
        return loss
    train, classes = dataset.splits["train"], len(dataset.classes)
    # an AbstractContext may know their number alone
    labels = np.arange(len(train)) % classes if train.labels is None else train.labels
    counts = np.bincount(labels, minlength=classes)
    if folds > 1:
        pooled = pooled_labels(dataset)
        judged = np.bincount(pooled[judged_rows(dataset)], minlength=classes)
        extra = np.bincount(pooled, minlength=classes) - judged
        counts = (1 - 1 / folds) * judged + extra
    return partial(loss, class_counts=counts.astype(np.float32))
