"""Losses against an independent computation in NumPy, their limits, and their gradients where they
are steep.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from flowersweep.runtime import compiles, start
from flowersweep.training.losses import class_weights, focal_cross_entropy

# the rarest and the most frequent class of the published images, and some between
COUNTS = np.array([1, 3, 8, 20, 55, 300, 780])


def drawn(
    seed: int = 0, n: int = 32, classes: int = 7, scale: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    return (scale * chance.normal(size=(n, classes))).astype(np.float32), chance.integers(
        0, classes, n
    )


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
    ours = focal_cross_entropy(
        jnp.array(logits), one_hot(labels, logits), label_smoothing=smoothing, gamma=gamma
    )
    assert float(ours) == pytest.approx(expected(logits, labels, smoothing, gamma), rel=2e-5)


def test_gamma_zero_is_cross_entropy() -> None:
    logits, labels = drawn(1)
    log_p = jax.nn.log_softmax(jnp.array(logits))
    plain = -log_p[jnp.arange(len(labels)), labels].mean()
    assert float(focal_cross_entropy(jnp.array(logits), one_hot(labels, logits))) == pytest.approx(
        float(plain), rel=1e-6
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("certain", [20.0, 100.0, 1000.0])
def test_the_gradient_is_finite_when_the_network_is_certain(gamma: float, certain: float) -> None:
    logits = jnp.array([[certain, 0.0, 0.0], [0.0, certain, 0.0]])
    for labels in ([0, 1], [1, 0]):
        gradient = jax.grad(
            lambda z, y=jax.nn.one_hot(jnp.array(labels), 3): focal_cross_entropy(
                z, y, label_smoothing=0.0, gamma=gamma
            )
        )(logits)
        assert bool(jnp.isfinite(gradient).all())


def test_the_gradient_is_that_of_finite_differences() -> None:
    logits, labels = drawn(2, n=4, classes=5, scale=1.0)
    gradient = jax.grad(
        lambda z: focal_cross_entropy(z, one_hot(labels, logits), label_smoothing=0.1, gamma=2.0)
    )(jnp.array(logits))
    for row, column in [(0, 0), (1, 3), (3, int(labels[3]))]:
        step = np.zeros_like(logits, dtype=np.float64)
        step[row, column] = 1e-5
        slope = (
            expected(logits + step, labels, 0.1, 2.0) - expected(logits - step, labels, 0.1, 2.0)
        ) / 2e-5
        assert float(gradient[row, column]) == pytest.approx(slope, abs=2e-5)


def mixed(labels: np.ndarray, classes: int, share: float = 0.3) -> np.ndarray:
    """Each image mixed with the next, as MixUp does."""
    rows = np.eye(classes)[labels]
    return (1 - share) * rows + share * np.roll(rows, 1, axis=0)


def long_hand(
    logits: np.ndarray,
    targets: np.ndarray,
    counts: np.ndarray,
    *,
    smoothing: float,
    gamma: float,
    beta: float,
    tau: float,
) -> float:
    """The mean loss in float64, image by image and class by class."""
    # of which (1 - beta^n) / (1 - beta) is the sum
    effective = np.array([sum(beta**power for power in range(n)) for n in counts])
    weights = 1 / effective
    weights /= np.repeat(weights, counts).mean()
    p = softmax(logits.astype(np.float64) + tau * np.log(counts / counts.sum()), axis=1)
    total = 0.0
    for row, target in zip(p, targets, strict=True):
        weight = sum(share * of for share, of in zip(target, weights, strict=True))
        soft = (1 - smoothing) * target + smoothing / len(row)
        total -= weight * sum(
            q * (1 - one) ** gamma * np.log(one) for q, one in zip(soft, row, strict=True)
        )
    return total / len(logits)


@pytest.mark.parametrize("soft", [False, True], ids=["one-hot", "mixed"])
@pytest.mark.parametrize(("smoothing", "gamma"), [(0.0, 0.0), (0.1, 0.0), (0.1, 2.0)])
@pytest.mark.parametrize(
    ("beta", "tau"), [(0.9, 0.0), (0.999, 0.0), (0.0, 1.0), (0.0, 2.5), (0.99, 1.0)]
)
def test_rare_classes_are_weighed_and_adjusted_as_published(
    beta: float, tau: float, smoothing: float, gamma: float, soft: bool
) -> None:
    logits, labels = drawn(3)
    targets = mixed(labels, 7) if soft else np.eye(7)[labels]
    ours = focal_cross_entropy(
        jnp.array(logits),
        jnp.array(targets),
        label_smoothing=smoothing,
        gamma=gamma,
        beta=beta,
        tau=tau,
        class_counts=COUNTS,
    )
    wanted = long_hand(
        logits, targets, COUNTS, smoothing=smoothing, gamma=gamma, beta=beta, tau=tau
    )
    # 1 - beta in float32 has fewer digits
    assert float(ours) == pytest.approx(wanted, rel=1e-3 if beta == 0.999 else 1e-4)


@pytest.mark.parametrize("soft", [False, True], ids=["one-hot", "mixed"])
def test_beta_and_tau_zero_and_equal_classes_are_exactly_the_plain_loss(soft: bool) -> None:
    logits, labels = drawn(4)
    targets = jnp.array(mixed(labels, 7) if soft else np.eye(7)[labels])
    plain = focal_cross_entropy(jnp.array(logits), targets, label_smoothing=0.1, gamma=2.0)
    zero = focal_cross_entropy(
        jnp.array(logits),
        targets,
        label_smoothing=0.1,
        gamma=2.0,
        beta=0.0,
        tau=0.0,
        class_counts=COUNTS,
    )
    assert float(zero) == float(plain)
    equal = focal_cross_entropy(
        jnp.array(logits), targets, label_smoothing=0.1, gamma=2.0, beta=0.99, tau=1.0
    )
    assert float(equal) == pytest.approx(float(plain), rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 0.999999])
def test_weights_have_a_mean_of_one_over_the_images_and_fall_with_the_count(beta: float) -> None:
    weights = np.asarray(class_weights(jnp.array(COUNTS, jnp.float32), jnp.float32(beta)))
    assert np.repeat(weights, COUNTS).mean() == pytest.approx(1.0, rel=1e-5)
    assert (np.diff(weights) <= 0).all()
    if beta == 0.999999:  # inverse frequency
        np.testing.assert_allclose(weights * COUNTS, (weights * COUNTS).mean(), rtol=2e-3)


@pytest.mark.parametrize(("beta", "tau"), [(0.0, 0.0), (0.99, 1.0), (0.999999, 10.0)])
def test_a_class_without_images_and_a_certain_network_leave_loss_and_gradient_finite(
    beta: float, tau: float
) -> None:
    counts = np.array([0, 5, 900])
    for certain in (0.0, 20.0, 1000.0):
        logits = certain * jnp.eye(3)
        for targets in (jnp.eye(3), jnp.roll(jnp.eye(3), 1, axis=0), jnp.full((3, 3), 1 / 3)):
            loss, gradient = jax.value_and_grad(focal_cross_entropy)(
                logits, targets, gamma=0.5, beta=beta, tau=tau, class_counts=counts
            )
            assert np.isfinite(loss)
            assert bool(jnp.isfinite(gradient).all())


def test_adjusted_logits_of_a_network_that_knows_nothing_but_the_frequencies_are_even() -> None:
    """Menon et al.: with tau 1 the best constant logits are equal ones, and without it the log
    prior.
    """
    labels = np.repeat(np.arange(7), COUNTS)
    flat, prior = (
        jnp.zeros((len(labels), 7)),
        jnp.tile(jnp.log(COUNTS / COUNTS.sum()), (len(labels), 1)),
    )
    targets = jax.nn.one_hot(labels, 7)
    for logits, tau in [(flat, 1.0), (prior, 0.0)]:
        gradient = jax.grad(focal_cross_entropy)(logits, targets, tau=tau, class_counts=COUNTS)
        np.testing.assert_allclose(gradient.sum(axis=0), np.zeros(7), atol=1e-6)


def test_another_beta_or_tau_compiles_nothing() -> None:
    start()
    logits, labels = drawn(5)
    loss = jax.jit(
        jax.grad(
            lambda z, beta, tau: focal_cross_entropy(
                z, one_hot(labels, logits), beta=beta, tau=tau, class_counts=COUNTS
            )
        )
    )
    first = loss(logits, np.float32(0), np.float32(0))
    before = compiles()
    other = loss(logits, np.float32(0.999), np.float32(1.5))
    assert compiles() == before
    assert not np.allclose(first, other)
