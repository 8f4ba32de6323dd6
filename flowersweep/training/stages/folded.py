"""Heads of several folds: each trains on the images of the other folds and predicts its own.

The heads are linear, so their mean is a head as well: that one is saved and scored on the holdout,
which no head has seen.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import Array

from flowersweep.training.folds import Folds, pooled_labels
from flowersweep.training.stages.head import (
    HeadStage,
    epoch_order,
    oversampled_order,
    scan_epoch,
)
from flowersweep.training.stages.stage import EpochPlan, OnStep, SharedArrays
from flowersweep.training.step import Hyperparameters, State, StepComponents


class FoldedHeadStage:
    """Train the heads of all folds side by side: one state with a leading axis, one program.

    ``tune`` is every image of train and tune, each predicted by the head that has not seen it;
    extra images are not judged.
    """

    def __init__(self, shared: SharedArrays, recipe: StepComponents, folds: Folds) -> None:
        self._single, self._folds = HeadStage(shared, recipe), folds
        self.shared, self.program = shared, self._single.program

        def out_of_fold(weights: list[Array], features: Array) -> Array:
            logits = jax.vmap(self._single.predict)(weights, features[folds.held_out])
            return logits.reshape(-1, logits.shape[-1])[folds.place]

        self._scan = scan_epoch(self.program, folds=True)
        self._out_of_fold = jax.jit(out_of_fold)
        self._mean = jax.jit(lambda weights: [each.mean(axis=0) for each in weights])
        # whichever trial is the first to be scored, it compiles nothing
        state = self.begin(None)
        for part in shared.features:
            self.logits(state, part)

    def begin(self, before: State | None) -> State:
        """Return a state with the same fresh head for every fold."""
        count = len(self._folds.trained)
        fresh = jax.tree.map(lambda leaf: np.stack([leaf] * count), self._single.fresh())
        state: State = self.shared.runtime.replicate(fresh)
        return state

    def epoch(
        self, state: State, hyperparameters: Hyperparameters, batches: EpochPlan, keep: OnStep
    ) -> tuple[State, float]:
        rows, count = self._folds.trained, batches.steps * batches.batch
        if batches.min_class_images:
            labels = pooled_labels(self.shared.dataset)
            own = [oversampled_order(batches, labels[r], count, n) for n, r in enumerate(rows)]
            order = np.take_along_axis(rows, np.stack(own), axis=1)
        else:
            order = rows[:, epoch_order(batches.seed, batches.epoch, rows.shape[1], count)[:count]]
        order = order.reshape(len(rows), batches.steps, batches.batch).swapaxes(0, 1)
        state, loss = self._scan(state, hyperparameters, *self.shared.train, order)
        return state, float(loss)

    def logits(self, state: State, part: str) -> np.ndarray:
        if part == "tune":
            return np.asarray(self._out_of_fold(state.weights, self.shared.features[part]))
        mean = state._replace(trainable=self._mean(state.weights), average=[])
        return self._single.logits(mean, part)

    @staticmethod
    def head(state: State) -> tuple[np.ndarray, np.ndarray]:
        mean: list[Any] = [np.asarray(each).mean(axis=0) for each in state.weights]
        return HeadStage.head(state._replace(trainable=mean, average=[]))
