"""Losses for multi-class classification, written for traced hyperparameters: changing one never
compiles anew.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Scalar = Array | float


def focal_cross_entropy(
    logits: Array,
    targets: Array,
    *,
    label_smoothing: Scalar = 0.0,
    gamma: Scalar = 0.0,
    beta: Scalar = 0.0,
    tau: Scalar = 0.0,
    class_counts: ArrayLike | None = None,
) -> Array:
    """Return the mean loss of a batch: ``-w sum_c q_c (1 - p_c)^gamma log p_c`` over smoothed
    targets q, for an image of weight w.

    With everything 0 this is the cross entropy. Each number adds one thing, and they combine:

    - ``label_smoothing``: e of ``q = (1 - e) onehot + e / K`` (Szegedy et al. 2016, section 7)
    - ``gamma``: easy images count less (Lin et al. 2017, eq. 4)
    - ``beta``: images of rare classes count more, by `class_weights` (Cui et al. 2019)
    - ``tau``: p is the softmax of ``logits + tau log prior``, so that the logits alone are for
    classes that are equally likely
      (Menon et al. 2021, eq. 10)

    ``logits`` float (n, K); ``targets`` float (n, K), rows that sum to 1: one-hot, or mixed from
    several images, whose weights then mix too; ``class_counts`` (K,): training images of each
    class, without which all classes count as equally frequent.
    """
    counts = (
        jnp.ones(targets.shape[-1])
        if class_counts is None
        else jnp.asarray(class_counts, jnp.float32)
    )
    # exactly 1 where all weights are; no product of matrices, which a TPU would round to bfloat16
    rarity = 1.0 + jnp.sum(targets * (class_weights(counts, beta) - 1.0), axis=-1)
    targets = smoothed(targets, label_smoothing)
    log_p = jax.nn.log_softmax(logits + tau * log_prior(counts))
    # a condition, since at gamma 0 the weight's three functions would be a third of the loss's time
    # on a CPU, for nothing
    weighted = jax.lax.cond(gamma > 0, _focal, lambda log_p, gamma: log_p, log_p, gamma)
    return -jnp.mean(rarity * jnp.sum(targets * weighted, axis=-1))


def _focal(log_p: Array, gamma: Scalar) -> Array:
    """Return ``(1 - p)^gamma log p``.

    The power's gradient at p = 1 is not finite for gamma below 1, so 1 - p stays clear of 0.
    """
    return jnp.exp(gamma * jnp.log(jnp.maximum(-jnp.expm1(log_p), 1e-6))) * log_p


def smoothed(targets: Array, label_smoothing: Scalar) -> Array:
    """Return targets (n, K) of which the share ``label_smoothing`` is spread evenly over all
    classes.
    """
    return targets * (1.0 - label_smoothing) + label_smoothing / targets.shape[-1]


def class_weights(counts: Array, beta: Scalar) -> Array:
    """Return weights (K,) proportional to ``(1 - beta) / (1 - beta^n)``, the inverse of the
    effective number of n images.

    Cui et al. 2019, proposition 1; beta 0 weighs all classes alike, beta towards 1 by their inverse
    frequency. They are scaled to a mean of 1 over the training images, so that beta leaves the size
    of the gradients, and with it the learning rate, alone. A class without images weighs as if it
    had one.
    """
    weights = -1.0 / jnp.expm1(jnp.maximum(counts, 1.0) * jnp.log(beta))
    return weights * (counts.sum() / jnp.sum(counts * weights))


def log_prior(counts: Array) -> Array:
    """Return the logarithm of each class's share (K,) of the training images; a class without
    images counts as if it had one.
    """
    return jnp.log(jnp.maximum(counts, 1.0) / counts.sum())
