"""What the stages of a training have in common: `begin` a state, train one `epoch` of it, compute
its `logits`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from flowersweep.models.classifier import Classifier
from flowersweep.runtime import Runtime
from flowersweep.training.step import Hyperparameters, State, StepDefinition

if TYPE_CHECKING:
    from flowersweep.data.dataset import Dataset

# the halves of val, that logits are stored for
PARTS = ("tune", "holdout")


@dataclass(frozen=True)
class SharedArrays:
    """What all trials on the same images and backbone share."""

    runtime: Runtime
    dataset: Dataset
    classifier: Classifier
    # features (n, D) and labels (n,) of the training images, on the device
    train: tuple[Array, Array]
    features: dict[str, Array]  # of PARTS: float32 (n, D), on the device


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
        """Return float32 logits (n, K) of the images of one of PARTS."""

    @staticmethod
    def head(state: State) -> tuple[np.ndarray, np.ndarray]:
        """Return the head to predict with: kernel (D, K) and bias (K,), of m members (m K,)."""


def fresh_head(shared: SharedArrays) -> list[np.ndarray]:
    """Return a transposed kernel (K, D) and a bias (K,), of m members (m K,), all zero.

    A head on fixed features needs no random weights to begin with, and does better without: what
    they add to the logits is unlearned slowly, in directions that few images use never
    (docs/design.md has the figures).
    """
    widths, classes = shared.classifier.widths, len(shared.dataset.classes)
    shapes = (classes, sum(widths)), (classes * len(widths),)
    return [np.zeros(shape, np.float32) for shape in shapes]


def heads(features: Array, kernel: Array, bias: Array, widths: Sequence[int]) -> Array:
    """Map features (n, D) to logits (n, K) by kernel (D, K) and bias (K,); of several members, each
    of its ``widths``, to (m, n, K).
    """
    if len(widths) == 1:
        return features @ kernel + bias
    cuts, biases = np.cumsum(widths)[:-1].tolist(), jnp.split(bias, len(widths))
    each = zip(jnp.split(features, cuts, axis=1), jnp.split(kernel, cuts), biases, strict=True)
    return jnp.stack([seen @ own + offset for seen, own, offset in each])
