"""The training step as one pure function of (state, hyperparameters, batch): every number that a
sweep may vary is traced.

What is not a number (backbone, image size, batch, which layers train, which loss, schedule and
optimizer) is the `Program`: it defines the compile group, and a study compiles once a group and
stage, however many trials it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import Array

from flowersweep.models.drop_path import drop_path

# {"loss": {...}, "schedule": {...}, "augment": {...}, "train": {...}}: scalars, all traced
Hyperparameters = dict[str, dict[str, Any]]


class State(NamedTuple):
    """A training between two steps: a pytree of arrays, and nothing else."""

    step: Array  # int32: steps done in this stage
    trainable: list[Array]  # the last two are the head's
    non_trainable: list[Array]
    optimizer: list[Array]
    average: list[Array]  # of the trainable ones, exponentially weighted; empty without averaging

    @property
    def weights(self) -> list[Array]:
        """The weights to predict with."""
        return self.average or self.trainable


Dropout = Callable[[Array], Array]


class Forward(Protocol):
    """From inputs to logits; returns the logits (n, K), of several members (m, n, K), and the new
    non-trainable variables.
    """

    def __call__(
        self,
        trainable: Sequence[Array],
        non_trainable: Sequence[Array],
        inputs: Array,
        training: bool,
        dropout: Dropout,
    ) -> tuple[Array, list[Array]]: ...


@dataclass(frozen=True)
class StepComponents:
    """The parts of a step that a configuration chooses.

    The callables take their hyperparameters by name.
    """

    loss: Callable[..., Array]  # (logits, targets, ...) -> scalar
    # (fraction of the run that is done, ...) -> fraction of the learning rate
    schedule: Callable[..., Array]
    optimizer: keras.optimizers.Optimizer
    # (key, images, targets, ...) -> images, targets
    augment: Callable[..., tuple[Array, Array]] | None = None
    averaging: bool = False  # whether an exponential moving average of the weights is kept
    clipping: bool = False  # whether the norm of the gradient is bounded
    # whether the backbone's normalisation (and what else differs in training) is in training mode
    batch_statistics: bool = False
    accumulate: int = 1  # parts that a batch is cut into, when it does not fit
    remat: bool = False  # whether the backward pass computes the backbone's maps anew


@dataclass(frozen=True)
class StepDefinition:
    """What a step is compiled for.

    The optimizer is built on the variables that ``forward`` takes as trainable.
    """

    forward: Forward
    classes: int
    recipe: StepComponents
    # of each variable of the backbone, where its layer lies: 0 the image, 1 the head
    heights: tuple[float, ...] = ()
    pseudo: bool = False  # whether labels are codes of pseudo-labels

    def init(self, trainable: Sequence[Any], non_trainable: Sequence[Any]) -> State:
        """Return the state before the first step, yet to be put on a device."""
        # NumPy, since making JAX arrays here would compile
        optimizer = [np.array(v.value) for v in self.recipe.optimizer.variables]
        average = list(trainable) if self.recipe.averaging else []
        return State(np.int32(0), list(trainable), list(non_trainable), optimizer, average)  # type: ignore[arg-type]


def train_step(
    program: StepDefinition,
    state: State,
    hyperparameters: Hyperparameters,
    inputs: Array,
    labels: Array,
) -> tuple[State, Array]:
    """Take one step; return the new state and the batch's mean loss.

    ``inputs`` (n, ...) as the program's forward takes them, ``labels`` int (n,). The random numbers
    are a function of the seed and the step alone, so a step that is taken again after a kill is the
    same step.
    """
    recipe, train = program.recipe, hyperparameters["train"]
    chance, mixing = jax.random.split(jax.random.fold_in(jax.random.key(train["seed"]), state.step))
    targets = (
        weighted_targets(labels, program.classes, train)
        if program.pseudo
        else jax.nn.one_hot(labels, program.classes)
    )
    if recipe.augment is not None:
        change = partial(recipe.augment, mixing, **hyperparameters["augment"])
        inputs, targets = _augmented(
            train["augmented"], change, (inputs.astype(jnp.float32), targets)
        )
    loss, gradients, non_trainable = _gradients(
        program, state, hyperparameters, chance, inputs, targets
    )
    factors = rate_factors(program.heights, train)
    if recipe.clipping:
        gradients = _clipped(gradients, program.heights, train)
    rate = train["learning_rate"] * recipe.schedule(
        state.step / train["steps"], **hyperparameters["schedule"]
    )
    trainable, optimizer = _updated(recipe.optimizer, state, gradients, rate, train, factors)
    return State(
        state.step + 1,
        trainable,
        non_trainable,
        optimizer,
        _averaged(state.average, trainable, train),
    ), loss


def weighted_targets(codes: Array, classes: int, train: dict[str, Any]) -> Array:
    """Return targets (n, K) of images whose label is ``code % classes``: one-hot, times the weight
    of the image.

    ``code // classes`` is 0 for a labelled image, whose weight is 1; for others it is the
    probability of the label in thousandths, and 1 for one that is left out.
    """
    sure = codes // classes
    taken = (sure > 1) & (sure + 0.5 > 1000.0 * train["pseudo_threshold"])
    weights = jnp.where(sure == 0, 1.0, jnp.where(taken, train["pseudo_weight"], 0.0))
    return weights[:, None] * jax.nn.one_hot(codes % classes, classes)


def weighted_loss(loss: Callable[..., Array], logits: Array, targets: Array) -> Array:
    """Return the mean over a batch of the loss of each image times its weight, which the sum of its
    targets (n, K) is.
    """
    weights = targets.sum(axis=-1)
    plain = targets / jnp.maximum(weights, 1e-9)[:, None]
    each = jax.vmap(lambda row, target: loss(row[None], target[None]))(logits, plain)
    return jnp.mean(weights * each)


def _augmented(
    wanted: Array, change: Callable[..., tuple[Array, Array]], batch: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return the changed images and targets, or in an epoch without augmentation the very ones."""

    def changed(images: Array, targets: Array) -> tuple[Array, Array]:
        new_images, new_targets = change(images, targets)
        return new_images.astype(images.dtype), new_targets.astype(targets.dtype)

    seen: tuple[Array, Array] = jax.lax.cond(wanted > 0.0, changed, lambda *same: same, *batch)
    return seen


def rate_factors(heights: Sequence[float], train: dict[str, Any]) -> list[Array]:
    """Return what the learning rate is multiplied by for each variable of the backbone: 0 for the
    layers that stay as they are; from the head down to the image it falls geometrically.
    """
    places = np.array(heights, np.float32)
    decay = train["layer_decay"] ** (1.0 - places)
    factors = jnp.where(
        places < train["frozen_share"], 0.0, train["backbone_lr_multiplier"] * decay
    )
    return [jax.lax.index_in_dim(factors, n, keepdims=False) for n in range(len(heights))]


def _gradients(
    program: StepDefinition,
    state: State,
    hyperparameters: Hyperparameters,
    key: Array,
    inputs: Array,
    targets: Array,
) -> tuple[Array, list[Array], list[Array]]:
    """Return the mean loss, its gradients and the new non-trainable variables, part by part of the
    batch.
    """
    parts = program.recipe.accumulate

    def loss_of(
        trainable: list[Array],
        non_trainable: list[Array],
        key: Array,
        inputs: Array,
        targets: Array,
    ) -> tuple[Array, list[Array]]:
        drop = partial(dropout, key, rate=hyperparameters["train"]["dropout"])
        with drop_path(jax.random.fold_in(key, 1), hyperparameters["train"]["drop_path"]):
            logits, non_trainable = program.forward(trainable, non_trainable, inputs, True, drop)

        def loss(logits: Array) -> Array:
            mean = partial(program.recipe.loss, **hyperparameters["loss"])
            if program.pseudo:
                return weighted_loss(mean, logits, targets)
            return mean(logits, targets)

        return loss(logits) if logits.ndim == 2 else joint_loss(
            loss, logits, hyperparameters["train"]["ensemble_loss"]
        ), non_trainable

    gradient = jax.value_and_grad(loss_of, has_aux=True)
    if parts == 1:
        (loss, non_trainable), gradients = gradient(
            state.trainable, state.non_trainable, key, inputs, targets
        )
        return loss, gradients, non_trainable

    def part(sums: Any, some: Any) -> tuple[Any, None]:
        total, gradients, non_trainable = sums
        (loss, non_trainable), more = gradient(state.trainable, non_trainable, *some)
        return (
            total + loss / parts,
            jax.tree.map(lambda a, b: a + b / parts, gradients, more),
            non_trainable,
        ), None

    zero = (jnp.float32(0.0), jax.tree.map(jnp.zeros_like, state.trainable), state.non_trainable)
    # every part takes some images of each replica: cut the other way, it would keep only some of
    # the replicas busy
    cut = jax.tree.map(
        lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), (inputs, targets)
    )
    (loss, gradients, non_trainable), _ = jax.lax.scan(
        part, zero, (jax.random.split(key, parts), *cut)
    )
    return loss, gradients, non_trainable


def joint_loss(loss: Callable[[Array], Array], logits: Array, share: Array) -> Array:
    """Return the sum of the losses of members with logits (m, n, K), and ``share`` times that of
    their pool.

    With a share of 0 each member trains as it would alone. The pool's loss makes them differ where
    that helps; alone it would let some lean on others (Webb et al. 2020, "To ensemble or not
    ensemble"), so that the members' own losses stay whole.
    """
    return sum((loss(member) for member in logits), start=share * loss(mean_log_probs(logits)))


def mean_log_probs(logits: Array) -> Array:
    """Return the logarithms (n, K) of the mean probabilities of members with logits (m, n, K); of
    one network its logits (n, K).
    """
    if logits.ndim == 2:
        return logits
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(float(len(logits)))


def _clipped(
    gradients: list[Array], heights: Sequence[float], train: dict[str, Any]
) -> list[Array]:
    """Scale the gradients down to a global norm (Pascanu et al. 2013, algorithm 1), to which layers
    that stay as they are add nothing.
    """
    squares = [jnp.sum(jnp.square(g)) for g in gradients]
    for n, height in enumerate(heights):
        squares[n] = jnp.where(height < train["frozen_share"], 0.0, squares[n])
    shrink = jnp.minimum(
        1.0, train["gradient_clip_norm"] / jnp.maximum(jnp.sqrt(sum(squares)), 1e-12)
    )
    return [g * shrink for g in gradients]


def _updated(
    optimizer: keras.optimizers.Optimizer,
    state: State,
    gradients: list[Array],
    rate: Array,
    train: dict[str, Any],
    factors: list[Array],
) -> tuple[list[Array], list[Array]]:
    # the rate is one of the optimizer's own variables: putting ours in its place keeps it traced
    slots = list(state.optimizer)
    slots[_rate_slot(optimizer)] = rate.astype(jnp.float32)
    moved, slots = optimizer.stateless_apply(slots, gradients, state.trainable)
    updated = []
    for n, (new, old) in enumerate(zip(moved, state.trainable, strict=True)):
        # decoupled weight decay (Loshchilov & Hutter 2019), but not of norms and biases
        change = new - old - (rate * train["weight_decay"] * old if old.ndim > 1 else 0.0)
        updated.append(old + (factors[n] * change if n < len(factors) else change))
    return updated, list(slots)


def _rate_slot(optimizer: keras.optimizers.Optimizer) -> int:
    return next(n for n, v in enumerate(optimizer.variables) if v is optimizer._learning_rate)


def _averaged(average: list[Array], trainable: list[Array], train: dict[str, Any]) -> list[Array]:
    """Move the average towards the weights; its half-life is a fraction of the run."""
    keep = jnp.exp2(-1.0 / jnp.maximum(train["ema_half_life"] * train["steps"], 1e-6))
    return [keep * old + (1.0 - keep) * new for old, new in zip(average, trainable, strict=False)]


def dropout(key: Array, features: Array, rate: Array) -> Array:
    """Zero each feature with probability ``rate`` and scale up the rest (Srivastava et al. 2014),
    with a traced rate.

    The mask is a hash of the position and the key (the finalizer of MurmurHash3, Appleby 2011),
    which XLA fuses into the product: JAX's own generator took up to 40 % of a head's step on a CPU,
    and a mask needs no more than this.
    """
    first, second = jax.random.key_data(key).astype(jnp.uint32)
    rows, columns = (jax.lax.broadcasted_iota(jnp.uint32, features.shape, axis) for axis in (0, 1))
    bits = (rows * jnp.uint32(features.shape[1]) + columns) * jnp.uint32(0x9E3779B1) + first
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = ((bits ^ (bits >> 13)) + second) * jnp.uint32(0xC2B2AE35)
    # the largest float32 below 2^32
    keep = (bits ^ (bits >> 16)) >= (rate * 4294967040.0).astype(jnp.uint32)
    return jnp.where(keep, features * (1.0 / (1.0 - rate)), 0.0).astype(features.dtype)
