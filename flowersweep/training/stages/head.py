"""The frozen stage: a head alone, trained on the features that the backbone gave once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import keras
import numpy as np
from jax import Array

from flowersweep.training.stages.epoch_orders import EPOCH_ORDERS
from flowersweep.training.stages.stage import EpochPlan, OnStep, SharedArrays, fresh_head, heads
from flowersweep.training.step import (
    Dropout,
    Hyperparameters,
    State,
    StepComponents,
    StepDefinition,
    mean_log_probs,
    train_step,
)

# (states, hyperparameters, features, labels, rows of each step) -> states, mean loss
ScanEpoch = Callable[..., tuple[State, Array]]


class HeadStage:
    """Train the head alone: an epoch is one jitted scan over rows of the cached features.

    The kernel is kept transposed, (K, D): both products of a step then run along the features as
    they lie in memory, 1.3 times as fast.
    """

    def __init__(self, shared: SharedArrays, recipe: StepComponents) -> None:
        widths, zero = shared.classifier.widths, fresh_head(shared)
        recipe.optimizer.build([keras.Variable(weights) for weights in zero])

        def forward(
            trainable: Sequence[Array],
            non_trainable: Sequence[Array],
            inputs: Array,
            training: bool,
            dropout: Dropout,
        ) -> tuple[Array, list[Array]]:
            kernel, bias = trainable
            features = dropout(inputs) if training else inputs
            return heads(features, kernel.T, bias, widths), list(non_trainable)

        def predict(weights: Sequence[Array], features: Array) -> Array:
            return mean_log_probs(forward(weights, [], features, False, lambda x: x)[0])

        classes = len(shared.dataset.classes)
        self.shared, self.predict = shared, predict
        self.program = StepDefinition(
            forward,
            classes,
            replace(recipe, augment=None),
            pseudo=shared.dataset.pseudo is not None,
        )
        self.scan = scan_epoch(self.program)
        self._sort = jax.jit(
            lambda rows, order: jax.tree.map(lambda each: each[order], rows),
            out_shardings=shared.runtime.replicated,
        )
        # not in NumPy: the threads of its BLAS spin on after a product, and the next epoch took up
        # to 1.6 times as long
        self._predict = jax.jit(predict)
        # whichever trial is the first to be scored on a part, it compiles nothing
        for features in shared.features.values():
            self._predict(zero, features)

    def begin(self, before: State | None) -> State:
        """Return a state with a fresh head."""
        state: State = self.shared.runtime.replicate(self.fresh())
        return state

    def fresh(self) -> State:
        """Return the state before the first step, yet to be put on a device."""
        return self.program.init(fresh_head(self.shared), [])

    def epoch(
        self, state: State, hyperparameters: Hyperparameters, batches: EpochPlan, keep: OnStep
    ) -> tuple[State, float]:
        count = batches.steps * batches.batch
        if batches.min_class_images:
            rows, order = self.shared.train, self._oversampled(batches, count)
        else:
            rows, order = self._ordered(batches.seed, batches.epoch, count)
        order = order[:count].reshape(batches.steps, batches.batch)
        state, loss = self.scan(state, hyperparameters, *rows, order)
        return state, float(loss)

    def _ordered(self, seed: int, epoch: int, count: int) -> tuple[tuple[Array, Array], np.ndarray]:
        """Return features and labels, and the order int32 (at least count,) to take them in: one
        pass over the images after another.

        On a CPU the rows of a single pass are put into that order once, for all trials with this
        seed: rows that follow each other in memory are read faster, by 5 % of an epoch. Where the
        memory ends, they are taken from where they lie; the numbers are the same.
        """
        rows, runtime = self.shared.train, self.shared.runtime
        straight = np.arange(len(rows[1]), dtype=np.int32)
        order = epoch_order(seed, epoch, len(straight), count)
        if runtime.platform != "cpu" or len(order) > len(straight):
            return rows, order
        nbytes = rows[0].nbytes * runtime.replicas
        in_order = EPOCH_ORDERS.get(
            id(self.shared), seed, epoch, lambda: self._sort(rows, order), nbytes
        )
        return (rows, order) if in_order is None else (in_order, straight)

    def _oversampled(self, batches: EpochPlan, count: int) -> np.ndarray:
        labels = self.shared.dataset.splits["train"].labels
        assert labels is not None
        return oversampled_order(batches, labels, count)

    def logits(self, state: State, part: str) -> np.ndarray:
        return np.asarray(self._predict(state.weights, self.shared.features[part]))

    @staticmethod
    def head(state: State) -> tuple[np.ndarray, np.ndarray]:
        kernel, bias = (np.asarray(weight) for weight in state.weights)
        return np.ascontiguousarray(kernel.T), bias


def scan_epoch(program: StepDefinition, *, folds: bool = False) -> ScanEpoch:
    """Return the compiled epoch of a frozen stage: a step after the other in one program.

    With ``folds`` the states and the rows of each step have a leading axis, a head a fold.
    """

    def scan(
        state: State,
        hyperparameters: Hyperparameters,
        features: Array,
        labels: Array,
        order: Array,
    ) -> tuple[State, Array]:
        def one(state: State, rows: Array) -> tuple[State, Array]:
            return train_step(program, state, hyperparameters, features[rows], labels[rows])

        state, losses = jax.lax.scan(jax.vmap(one) if folds else one, state, order)
        return state, losses.mean()

    return jax.jit(scan)


def epoch_order(seed: int, epoch: int, images: int, count: int) -> np.ndarray:
    """Return the order int32 (at least count,) of an epoch: one pass over the images after another,
    each in an order of its own.
    """
    straight, passes = np.arange(images, dtype=np.int32), -(-count // images)
    rng = np.random.default_rng([seed, 1, epoch])
    return np.concatenate([rng.permutation(straight) for _ in range(passes)])


def oversampled_order(
    batches: EpochPlan, labels: np.ndarray, count: int, fold: int = 0
) -> np.ndarray:
    """Return an order int32 (count,) of images with labels (n,) in which every class has its
    smallest number.
    """
    from flowersweep.data.splitting import oversample

    order = epoch_order(batches.seed, batches.epoch, len(labels), count)[:count]
    rng = np.random.default_rng([batches.seed, 2, batches.epoch, fold])
    return oversample(order, labels, batches.min_class_images, rng)
