"""The stages of a training: a frozen stage scans over cached features, a fine-tune stage takes
images through the whole network.

Both have the same three verbs: `begin` a state, train one `epoch` of it, compute its `logits`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import Array

from flowersweep.data.dataset import Dataset
from flowersweep.data.oversampling import oversample
from flowersweep.data.pipeline import padded, shuffled
from flowersweep.models.classifier import Classifier
from flowersweep.runtime import Runtime
from flowersweep.training.epoch_orders import EPOCH_ORDERS
from flowersweep.training.step import (
    Dropout,
    Hyperparameters,
    State,
    StepComponents,
    StepDefinition,
    mean_log_probs,
    train_step,
)


@dataclass(frozen=True)
class SharedArrays:
    """What all trials on the same images and backbone share."""

    runtime: Runtime
    dataset: Dataset
    classifier: Classifier
    # features (n, D) and labels (n,) of the training images, on the device
    train: tuple[Array, Array]
    features: dict[str, Array]  # of tune, report and test: float32 (n, D), on the device


@dataclass(frozen=True)
class EpochPlan:
    """One epoch over the training images: its order depends on seed and epoch alone.

    Some of its steps may be done already.
    """

    seed: int
    epoch: int
    steps: int
    batch: int
    losses: Sequence[Any] = ()  # of the steps that are done
    min_class_images: int = 0  # of every class, as far as there is room


# receives the state and the losses after each step that can be gone on from
OnStep = Callable[[State, Sequence[Any]], None]


class Stage(Protocol):
    """A part of a training with its own frozen layers."""

    program: StepDefinition

    def begin(self, before: State | None) -> State:
        """Return the state before the first step; it continues the stage before, if any."""

    def epoch(
        self, state: State, hyperparameters: Hyperparameters, batches: EpochPlan, keep: OnStep
    ) -> tuple[State, float]:
        """Train on the batches that are left; return the state and the mean loss of all of them."""

    def logits(self, state: State, part: str) -> np.ndarray:
        """Return float32 logits (n, K) of the images of tune, report or test."""

    @staticmethod
    def head(state: State) -> tuple[np.ndarray, np.ndarray]:
        """Return the head to predict with: kernel (D, K) and bias (K,), of m members (m K,)."""


def fresh_head(widths: Sequence[int], classes: int) -> list[np.ndarray]:
    """Return a transposed kernel (classes, D) and a bias (m classes,), all zero.

    A head on fixed features needs no random weights to begin with, and does better without: what
    they add to the logits is unlearned slowly, in directions that few images use never
    (docs/design.md has the figures).
    """
    return [
        np.zeros((classes, sum(widths)), np.float32),
        np.zeros(classes * len(widths), np.float32),
    ]


class HeadStage:
    """Train the head alone: an epoch is one jitted scan over rows of the cached features.

    The kernel is kept transposed, (K, D): both products of a step then run along the features as
    they lie in memory, 1.3 times as fast.
    """

    def __init__(self, shared: SharedArrays, recipe: StepComponents) -> None:
        self.widths, classes = shared.classifier.widths, len(shared.dataset.classes)
        self.shapes = (classes, sum(self.widths)), (classes * len(self.widths),)
        recipe.optimizer.build(
            [keras.Variable(np.zeros(shape, np.float32)) for shape in self.shapes]
        )

        def forward(
            trainable: Sequence[Array],
            non_trainable: Sequence[Array],
            inputs: Array,
            training: bool,
            dropout: Dropout,
        ) -> tuple[Array, list[Array]]:
            kernel, bias = trainable
            return heads(
                dropout(inputs) if training else inputs, kernel.T, bias, self.widths
            ), list(non_trainable)

        self.shared, self.program = (
            shared,
            StepDefinition(forward, classes, replace(recipe, augment=None)),
        )

        def scan(
            state: State,
            hyperparameters: Hyperparameters,
            features: Array,
            labels: Array,
            order: Array,
        ) -> tuple[State, Array]:
            def one(state: State, rows: Array) -> tuple[State, Array]:
                return train_step(
                    self.program, state, hyperparameters, features[rows], labels[rows]
                )

            state, losses = jax.lax.scan(one, state, order)
            return state, losses.mean()

        self._scan = jax.jit(scan)
        self._sort = jax.jit(
            lambda rows, order: jax.tree.map(lambda each: each[order], rows),
            out_shardings=shared.runtime.replicated,
        )

        def predict(weights: Sequence[Array], features: Array) -> Array:
            return mean_log_probs(forward(weights, [], features, False, lambda x: x)[0])

        self.predict = predict
        # not in NumPy: the threads of its BLAS spin on after a product, and the next epoch took up
        # to 1.6 times as long
        self._predict = jax.jit(self.predict)
        # whichever trial is the first to be scored on a part, it compiles nothing
        for features in shared.features.values():
            self._predict([np.zeros(shape, np.float32) for shape in self.shapes], features)

    def begin(self, before: State | None) -> State:
        """Return a state with a fresh head."""
        state: State = self.shared.runtime.replicate(self.fresh())
        return state

    def fresh(self) -> State:
        """Return the state before the first step, yet to be put on a device."""
        return self.program.init(fresh_head(self.widths, self.shapes[0][0]), [])

    def epoch(
        self, state: State, hyperparameters: Hyperparameters, batches: EpochPlan, keep: OnStep
    ) -> tuple[State, float]:
        count = batches.steps * batches.batch
        if batches.min_class_images:
            rows, order = self.shared.train, self._oversampled(batches, count)
        else:
            rows, order = self._ordered(batches.seed, batches.epoch, count)
        order = order[:count].reshape(batches.steps, batches.batch)
        state, loss = self._scan(state, hyperparameters, *rows, order)
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
    order = epoch_order(batches.seed, batches.epoch, len(labels), count)[:count]
    rng = np.random.default_rng([batches.seed, 2, batches.epoch, fold])
    return oversample(order, labels, batches.min_class_images, rng)


class FinetuneStage:
    """Train every layer: batches of images go from the files through the whole network, cut over
    the replicas.
    """

    def __init__(self, shared: SharedArrays, recipe: StepComponents) -> None:
        network, widths, classes = (
            shared.classifier.features,
            shared.classifier.widths,
            len(shared.dataset.classes),
        )
        head = [
            keras.Variable(np.zeros(shape, np.float32))
            for shape in ((sum(widths), classes), (classes * len(widths),))
        ]
        recipe.optimizer.build([*network.trainable_variables, *head])

        def forward(
            trainable: Sequence[Array],
            non_trainable: Sequence[Array],
            inputs: Array,
            training: bool,
            dropout: Dropout,
        ) -> tuple[Array, list[Array]]:
            features, changed = network.stateless_call(
                trainable[:-2],
                non_trainable,
                inputs.astype(jnp.float32),
                training=training and recipe.batch_statistics,
            )
            return heads(
                dropout(features) if training else features, trainable[-2], trainable[-1], widths
            ), list(changed)

        self.shared = shared
        self.program = StepDefinition(forward, classes, recipe, shared.classifier.heights)
        self._step = jax.jit(lambda *batch: train_step(self.program, *batch), donate_argnums=0)
        self._predict = jax.jit(
            lambda weights, non_trainable, images: mean_log_probs(
                forward(weights, non_trainable, images, False, lambda x: x)[0]
            )
        )

    def begin(self, before: State | None) -> State:
        """Return a state with the backbone's own weights and the head that the frozen stage left,
        or a fresh one if there was none.
        """
        network, widths = self.shared.classifier.features, self.shared.classifier.widths
        left = (
            fresh_head(widths, len(self.shared.dataset.classes))
            if before is None
            else before.weights
        )
        kernel, bias = (np.asarray(weight) for weight in left)
        trainable = [
            *(v.value for v in network.trainable_variables),
            np.ascontiguousarray(kernel.T),
            bias,
        ]
        fresh = self.program.init(trainable, [v.value for v in network.non_trainable_variables])
        state: State = self.shared.runtime.replicate(fresh)
        return state

    def epoch(
        self, state: State, hyperparameters: Hyperparameters, batches: EpochPlan, keep: OnStep
    ) -> tuple[State, float]:
        dataset, place = self.shared.dataset, self.shared.runtime.shard_batch
        split, size, losses = dataset.splits["train"], dataset.image_size, [*batches.losses]
        images = shuffled(
            split,
            size,
            batches.batch,
            seed=batches.seed,
            epoch=batches.epoch,
            skip=len(losses),
            steps=batches.steps,
            min_class_images=batches.min_class_images,
        )
        # the steps reuse the memory of their argument; the caller keeps his
        state = jax.tree.map(jnp.copy, state)
        for some, labels in images:
            state, loss = self._step(state, hyperparameters, place(some), place(labels))
            losses.append(loss)
            # one step ahead is enough: more would only fill the memory with images
            jax.device_get(losses[-2:-1])
            keep(state, losses)
        return state, float(np.mean(jax.device_get(losses)))

    def logits(self, state: State, part: str) -> np.ndarray:
        dataset, runtime = self.shared.dataset, self.shared.runtime
        split, rows = split_and_rows(dataset, part)
        batches = padded(
            dataset.splits[split], dataset.image_size, 32 * runtime.replicas, rows, keep=True
        )
        batches_of_logits = [
            runtime.gather(
                self._predict(state.weights, state.non_trainable, runtime.shard_batch(images))
            )
            for images in batches
        ]
        return np.concatenate(batches_of_logits)[: len(rows)]

    @staticmethod
    def head(state: State) -> tuple[np.ndarray, np.ndarray]:
        kernel, bias = (np.asarray(weight) for weight in state.weights[-2:])
        return kernel, bias


def heads(features: Array, kernel: Array, bias: Array, widths: Sequence[int]) -> Array:
    """Map features (n, D) to logits (n, K) by kernel (D, K) and bias (K,); of several members, each
    of its ``widths``, to (m, n, K).
    """
    if len(widths) == 1:
        return features @ kernel + bias
    cuts, biases = np.cumsum(widths)[:-1].tolist(), jnp.split(bias, len(widths))
    each = zip(jnp.split(features, cuts, axis=1), jnp.split(kernel, cuts), biases, strict=True)
    return jnp.stack([seen @ own + offset for seen, own, offset in each])


def split_and_rows(dataset: Dataset, part: str) -> tuple[str, np.ndarray]:
    """Return which split a part (tune, report or test) lies in, and the rows of that split that
    belong to it.
    """
    if part in ("tune", "holdout"):
        return "val", getattr(dataset, part)
    return part, np.arange(len(dataset.splits[part]))
