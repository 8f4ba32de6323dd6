"""Losses against an independent computation in NumPy, their limits, and their gradients where they are steep."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from flowersweep.training.losses import focal_cross_entropy


def drawn(seed: int = 0, n: int = 32, classes: int = 7, scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    return (scale * chance.normal(size=(n, classes))).astype(np.float32), chance.integers(0, classes, n)


def one_hot(labels: np.ndarray, logits: np.ndarray) -> jax.Array:
    return jax.nn.one_hot(labels, logits.shape[1])


def expected(logits: np.ndarray, labels: np.ndarray, smoothing: float, gamma: float) -> float:
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    targets = np.full(logits.shape, smoothing / logits.shape[1])
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    return float(-(targets * (1 - np.exp(log_p)) ** gamma * log_p).sum(axis=1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_the_loss_is_the_published_formula(smoothing: float, gamma: float) -> None:
    logits, labels = drawn()
    ours = focal_cross_entropy(jnp.array(logits), one_hot(labels, logits), label_smoothing=smoothing, gamma=gamma)
    assert float(ours) == pytest.approx(expected(logits, labels, smoothing, gamma), rel=2e-5)


def test_gamma_zero_is_cross_entropy() -> None:
    logits, labels = drawn(1)
    log_p = jax.nn.log_softmax(jnp.array(logits))
    plain = -log_p[jnp.arange(len(labels)), labels].mean()
    assert float(focal_cross_entropy(jnp.array(logits), one_hot(labels, logits))) == pytest.approx(float(plain), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("certain", [20.0, 100.0, 1000.0])
def test_the_gradient_is_finite_when_the_network_is_certain(gamma: float, certain: float) -> None:
    logits = jnp.array([[certain, 0.0, 0.0], [0.0, certain, 0.0]])
    for labels in ([0, 1], [1, 0]):
        gradient = jax.grad(lambda z, y=jax.nn.one_hot(jnp.array(labels), 3): focal_cross_entropy(z, y, label_smoothing=0.0, gamma=gamma))(
            logits
        )
        assert bool(jnp.isfinite(gradient).all())


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits, labels = drawn(2, n=4, classes=5, scale=1.0)
    gradient = jax.grad(lambda z: focal_cross_entropy(z, one_hot(labels, logits), label_smoothing=0.1, gamma=2.0))(jnp.array(logits))
    for row, column in [(0, 0), (1, 3), (3, int(labels[3]))]:
        step = np.zeros_like(logits, dtype=np.float64)
        step[row, column] = 1e-5
        slope = (expected(logits + step, labels, 0.1, 2.0) - expected(logits - step, labels, 0.1, 2.0)) / 2e-5
        assert float(gradient[row, column]) == pytest.approx(slope, abs=2e-5)
