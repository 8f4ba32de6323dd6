"""Losses for multi-class classification, written for traced hyperparameters: changing one never compiles anew."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def focal_cross_entropy(logits: Array, targets: Array, *, label_smoothing: Array | float = 0.0, gamma: Array | float = 0.0) -> Array:
    """Return the mean loss of a batch: ``-sum_c q_c (1 - p_c)^gamma log p_c`` over smoothed targets q.

    With ``gamma`` 0 this is the smoothed cross entropy (Szegedy et al. 2016, eq. 3: ``q = (1 - e) onehot + e / K``); with
    ``label_smoothing`` 0 the focal loss (Lin et al. 2017, eq. 4). ``logits`` float (n, K), ``targets`` float (n, K), rows
    that sum to 1: one-hot, or mixed from several images.
    """
    targets = smoothed(targets, label_smoothing)
    log_p = jax.nn.log_softmax(logits)
    # the power's gradient at p = 1 is not finite for gamma below 1, so 1 - p stays clear of 0
    weight = jnp.exp(gamma * jnp.log(jnp.maximum(-jnp.expm1(log_p), 1e-6)))
    return -jnp.sum(targets * weight * log_p, axis=-1).mean()


def smoothed(targets: Array, label_smoothing: Array | float) -> Array:
    """Return targets (n, K) of which the share ``label_smoothing`` is spread evenly over all classes."""
    return targets * (1.0 - label_smoothing) + label_smoothing / targets.shape[-1]
