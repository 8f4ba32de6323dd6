"""One trial, from Config to Result, in segments: `advance` as often as it takes, then `finish`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import keras
import numpy as np

from flowersweep.config.batches import is_augmented, is_main
from flowersweep.config.schema import SCALING, Experiment
from flowersweep.config.targets import arguments
from flowersweep.errors import TrialFailed
from flowersweep.evaluation.calibration import temperature
from flowersweep.evaluation.divergence import (
    absurd_scores,
    constant_prediction,
    unusable_logits,
)
from flowersweep.evaluation.trial_scores import final_scores, score_part
from flowersweep.models.classifier import Classifier, build, sized, undrawn
from flowersweep.study.events import Epoch, Metrics
from flowersweep.training.checkpoint import BestEpoch, Checkpoint
from flowersweep.training.context import CONSTANT, TrainingContext
from flowersweep.training.folds import judged_rows, pooled_labels
from flowersweep.training.stages.head import HeadStage
from flowersweep.training.stages.stage import PARTS, EpochPlan, Stage
from flowersweep.training.step import Hyperparameters, State

OnCheckpoint = Callable[[Checkpoint], None]
FOLLOWED = "tune/calibrated_nll"  # decides which epoch is the best


@dataclass(frozen=True)
class Result:
    """What a whole trial gave: scores on tune and holdout, and float32 logits (n, K) and int32
    labels (n,) of tune and holdout.
    """

    metrics: Metrics
    logits: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def advance(
    config: Experiment,
    checkpoint: Checkpoint,
    until: int,
    context: TrainingContext,
    keep: OnCheckpoint = lambda checkpoint: None,
) -> tuple[Checkpoint, list[Epoch]]:
    """Train from the checkpoint until ``until`` epochs are done; return the new checkpoint and what
    each epoch of the segment gave. It is shorter where ``train.patience`` ends it.

    A pure function of its arguments: advanced again, in this process or another, it returns the
    same numbers. ``keep`` receives every checkpoint on the way that the segment can be gone on
    from. Raises TrialFailed if the training diverges, or the memory of the device is not enough.
    """
    state, losses, done = checkpoint.state, checkpoint.losses, [*checkpoint.done]
    batch, best, reached = context.batch(config), checkpoint.best, checkpoint.epoch
    try:
        for epoch in range(checkpoint.epoch, until):
            if best and epoch - best.epoch >= (config.train.patience or np.inf):
                break  # its curve is flat
            stage, first = stage_at(config, epoch, context)
            steps, at_least = context.steps(config, epoch), config.train.min_class_images
            state = stage.begin(state) if epoch == first and not losses else state
            assert state is not None
            rates = hyperparameters(config, epoch, steps, context.runtime.replicas)
            here = partial(_checkpoint_midway, keep, epoch, tuple(done), best)
            plan = EpochPlan(config.seed, epoch, steps, batch, losses, at_least)
            state, loss = stage.epoch(state, rates, plan, here)
            logits, labels = stage.logits(state, "tune"), part_labels(context, config, "tune")
            metrics = {
                "train/loss": loss,
                **score_part("tune", logits, labels, temperature(logits, labels)),
            }
            _require_sound(absurd_scores(metrics) or unusable_logits("tune", logits), epoch + 1)
            done.append(Epoch(epoch + 1, time.time(), metrics))
            losses, reached = (), epoch + 1
            best = _better_epoch(config, best, reached, metrics[FOLLOWED], state)
    except jax.errors.JaxRuntimeError as error:
        # of which the other hosts would not know
        if "RESOURCE_EXHAUSTED" not in str(error) or context.runtime.hosts > 1:
            raise
        raise TrialFailed(
            f"out of memory with a batch of {batch}: {str(error).splitlines()[0]}"
        ) from error
    return Checkpoint(reached, state, best=best), done


def _checkpoint_midway(
    keep: OnCheckpoint,
    epoch: int,
    done: tuple[Epoch, ...],
    best: BestEpoch | None,
    state: State,
    losses: Sequence[Any],
) -> None:
    keep(Checkpoint(epoch, state, losses, done, best))


def _better_epoch(
    config: Experiment, best: BestEpoch | None, epoch: int, value: float, state: State
) -> BestEpoch | None:
    """Return the best epoch of the main stage so far; None if nothing depends on it."""
    train = config.train
    followed = train.restore_best or train.patience is not None
    # tune is trained on then, and says nothing
    if not followed or config.data.train_on == "all" or not is_main(train, epoch - 1):
        return best
    if best is not None and not value < best.value:
        return best
    weights = State(state.step, state.weights, state.non_trainable, [], [])
    return BestEpoch(epoch, value, weights if train.restore_best else None)


def restored(config: Experiment, checkpoint: Checkpoint) -> Checkpoint:
    """Return the weights that a training gives back: its last, or with ``train.restore_best`` those
    of its best epoch.
    """
    best = checkpoint.best
    if not config.train.restore_best or best is None or best.state is None:
        return checkpoint
    return Checkpoint(best.epoch, best.state)


def finish(config: Experiment, checkpoint: Checkpoint, context: TrainingContext) -> Result:
    """Score a trained trial on tune and on the held-out holdout; return that with the logits of
    every part.

    Raises TrialFailed if the training has diverged.
    """
    checkpoint = restored(config, checkpoint)
    assert checkpoint.state is not None
    stage, _ = stage_at(config, checkpoint.epoch - 1, context)
    logits = {part: stage.logits(checkpoint.state, part) for part in PARTS}
    labels = {part: part_labels(context, config, part) for part in PARTS}
    metrics = final_scores(logits, labels)
    faults = (
        absurd_scores(metrics),
        *(unusable_logits(part, values) for part, values in logits.items()),
        constant_prediction(logits, metrics),
    )
    _require_sound(next(filter(None, faults), None), checkpoint.epoch)
    if config.data.train_on == "all":  # it has seen the holdout: no score of it is evidence
        metrics = {name: value for name, value in metrics.items() if "holdout/" not in name}
    return Result(metrics, logits, labels)


def build_keras_model(
    config: Experiment,
    trained: Checkpoint,
    context: TrainingContext,
    *,
    temperature: float = 1.0,
) -> keras.Model:
    """Return the trained classifier as a Keras model of standard layers: images (n, H, W, 3) in
    0..255 to float32 logits (n, K) over ``temperature``.
    """
    return build_trained_classifier(config, trained, context).calibrated(temperature)


def build_trained_classifier(
    config: Experiment, trained: Checkpoint, context: TrainingContext
) -> Classifier:
    """Return the trained classifier and its parts, in Keras' own layers."""
    assert trained.state is not None
    dataset, classifier = (
        context.dataset(config.data),
        context.classifier(config),
    )  # and no features: this may not be where it was trained
    size, classes = dataset.image_size, len(dataset.classes)
    with undrawn():
        made = build(
            replace(sized(config.model, config.data.image_size), weights="none"),
            image_size=size,
            classes=classes,
            lower=False,
            finetune=config.train.finetune,
            trusted=context.trusted,
        )
    made.backbone.set_weights(classifier.backbone.get_weights())
    tuned = config.train.finetune and trained.epoch > config.train.head_epochs
    if tuned:
        variables = [*made.backbone.trainable_variables, *made.backbone.non_trainable_variables]
        values = [*trained.state.weights[:-2], *trained.state.non_trainable]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    kind = HeadStage if config.train.finetune and not tuned else context.main_kind(config)
    made.set_heads(*kind.head(trained.state))
    return made


def stage_at(config: Experiment, epoch: int, context: TrainingContext) -> tuple[Stage, int]:
    """Return the stage that trains this epoch, and the epoch that the stage begins with."""
    head = config.train.all_epochs - config.train.epochs
    return (context.head_stage(config), 0) if epoch < head else (context.main_stage(config), head)


def hyperparameters(
    config: Experiment, epoch: int, steps: int, replicas: int = 1
) -> Hyperparameters:
    """Return the traced numbers of the stage that trains this epoch of ``steps`` steps on so many
    replicas.
    """
    train, main = config.train, is_main(config.train, epoch)
    values = {
        "loss": arguments(config.loss),
        "augment": arguments(config.augment),
        "schedule": arguments(config.schedule) if main else CONSTANT,
        "train": {
            "learning_rate": (train.learning_rate if main else train.head_learning_rate)
            * replicas ** SCALING[train.lr_scaling],
            "backbone_lr_multiplier": train.backbone_lr_multiplier,
            "layer_decay": train.layer_decay,
            "frozen_share": train.frozen_share,
            "augmented": is_augmented(train, epoch),
            "weight_decay": train.weight_decay,
            "pseudo_weight": train.pseudo_weight,
            "pseudo_threshold": train.pseudo_threshold,
            "gradient_clip_norm": train.gradient_clip_norm or np.inf,
            "ema_half_life": train.ema_half_life,
            "dropout": config.model.dropout,
            "drop_path": config.model.drop_path,
            "ensemble_loss": config.model.ensemble_loss or 0.0,
            "steps": steps * (train.epochs if main else train.head_epochs),
        },
    }
    scalars = jax.tree.map(np.float32, values)
    scalars["train"]["seed"] = np.uint32(config.seed)
    return scalars  # type: ignore[no-any-return]


def part_labels(context: TrainingContext, config: Experiment, part: str) -> np.ndarray:
    """Return the int32 labels (n,) of the images that `Stage.logits` scores as tune or holdout."""
    dataset = context.dataset(config.data)
    if part == "tune" and context.folds(config) > 1:
        judged: np.ndarray = pooled_labels(dataset)[judged_rows(dataset)]
        return judged
    labels = dataset.splits["val"].labels
    assert labels is not None
    chosen: np.ndarray = labels[getattr(dataset, part)]
    return chosen


def _require_sound(fault: str | None, epoch: int) -> None:
    if fault:
        raise TrialFailed(f"{fault} after epoch {epoch}")
