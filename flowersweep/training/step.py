"""The training step as one pure function of (state, hyperparameters, batch): every number that a sweep may vary is traced.

What is not a number (backbone, image size, batch, which layers train, which loss, schedule and optimizer) is the `Program`: it
defines the compile group, and a study compiles once a group and stage, however many trials it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import Array

Hyperparameters = dict[str, dict[str, Any]]  # {"loss": {...}, "schedule": {...}, "train": {...}}: scalars, all traced


class State(NamedTuple):
    """A training between two steps: a pytree of arrays, and nothing else."""

    step: Array  # int32: steps done in this stage
    trainable: list[Array]
    non_trainable: list[Array]
    optimizer: list[Array]


Dropout = Callable[[Array], Array]


class Forward(Protocol):
    """From inputs to logits; returns the logits (n, K) and the new non-trainable variables."""

    def __call__(
        self, trainable: Sequence[Array], non_trainable: Sequence[Array], inputs: Array, training: bool, dropout: Dropout
    ) -> tuple[Array, list[Array]]: ...


@dataclass(frozen=True)
class Program:
    """What a step is compiled for. The optimizer is built on the variables that ``forward`` takes as trainable."""

    forward: Forward
    loss: Callable[..., Array]
    schedule: Callable[..., Array]
    optimizer: keras.optimizers.Optimizer

    def init(self, trainable: Sequence[Any], non_trainable: Sequence[Any]) -> State:
        """Return the state before the first step, yet to be put on a device."""
        optimizer = [np.array(v.value) for v in self.optimizer.variables]  # NumPy, since making JAX arrays here would compile
        return State(np.int32(0), list(trainable), list(non_trainable), optimizer)  # type: ignore[arg-type]


def train_step(program: Program, state: State, hyperparameters: Hyperparameters, inputs: Array, labels: Array) -> tuple[State, Array]:
    """Take one step; return the new state and the batch's mean loss.

    ``inputs`` (n, ...) as the program's forward takes them, ``labels`` int (n,). The random numbers are a function of the seed
    and the step alone, so a step that is taken again after a kill is the same step.
    """
    train = hyperparameters["train"]
    key = jax.random.fold_in(jax.random.key(train["seed"]), state.step)

    def drop(features: Array) -> Array:
        return dropout(key, features, train["dropout"])

    def loss_of(trainable: list[Array]) -> tuple[Array, list[Array]]:
        logits, non_trainable = program.forward(trainable, state.non_trainable, inputs, True, drop)
        return program.loss(logits, labels, **hyperparameters["loss"]), non_trainable

    (loss, non_trainable), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.trainable)
    rate = train["learning_rate"] * program.schedule(state.step / train["steps"], **hyperparameters["schedule"])
    trainable, optimizer = _updated(program.optimizer, state, gradients, rate)
    decay = rate * train["weight_decay"]
    trainable = [new - decay * old if old.ndim > 1 else new for new, old in zip(trainable, state.trainable, strict=True)]
    return State(state.step + 1, trainable, non_trainable, optimizer), loss


def _updated(optimizer: keras.optimizers.Optimizer, state: State, gradients: list[Array], rate: Array) -> tuple[list[Array], list[Array]]:
    # the rate is one of the optimizer's own variables: putting ours in its place keeps it traced
    slots = list(state.optimizer)
    slots[_rate_slot(optimizer)] = rate.astype(jnp.float32)
    trainable, slots = optimizer.stateless_apply(slots, gradients, state.trainable)
    return list(trainable), list(slots)


def _rate_slot(optimizer: keras.optimizers.Optimizer) -> int:
    return next(n for n, v in enumerate(optimizer.variables) if v is optimizer._learning_rate)


def dropout(key: Array, features: Array, rate: Array) -> Array:
    """Zero each feature with probability ``rate`` and scale up the rest (Srivastava et al. 2014), with a traced rate.

    The rate is rounded to 1/65536, for 16 random bits a feature are half the work of 32.
    """
    bits = jax.random.bits(key, features.shape, jnp.uint16)
    keep = bits >= (rate * 65536.0).astype(jnp.uint16)
    return jnp.where(keep, features / (1.0 - rate), 0.0).astype(features.dtype)
