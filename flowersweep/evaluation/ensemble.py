"""How the predictions of several models are best put together, fitted on one set of images and told on another.

Each member gets a temperature of its own first: pooled as they are, the boldest would outvote the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from flowersweep.evaluation.calibration import probabilities, temperature
from flowersweep.evaluation.scores import Labels, Logits, Reals, accuracy, log_likelihoods
from flowersweep.evaluation.statistics import Interval, resampled

SMALLEST = 1e-12  # a probability: what a member holds impossible must not cost the pool everything
POOLINGS = ("linear", "geometric")


@dataclass(frozen=True)
class Pool:
    """How members are put together: ``pooling`` of probabilities (linear) or of logits (geometric), each at its temperature."""

    pooling: str
    temperatures: Reals  # (m,), of the members
    weights: Reals  # (m,), at least 0, with sum 1
    recalibration: float = 1.0  # the temperature of what comes out

    def logits(self, members: Sequence[Logits]) -> Reals:
        """Return the logarithms of the pooled probabilities (n, K), up to a constant an image, from the members' logits (n, K)."""
        return _pooled(self.pooling, matched(members, self.temperatures), self.weights) / self.recalibration


def pool(members: Sequence[Logits], labels: Labels, weights: Sequence[float] | Reals, *, pooling: str = "linear") -> Pool:
    """Return the members with these relative weights, their temperatures and that of the pool fitted to these images.

    An average of calibrated members is not calibrated itself: it is unsure where they disagree (Rahaman & Thiery 2021).
    """
    given = np.asarray(weights, float)
    if (given < 0).any() or not given.sum() > 0:
        raise ValueError(f"weights must be at least 0, and not all 0; they are {given.tolist()}")
    temperatures = np.array([temperature(each, labels) for each in members])
    plain = Pool(pooling, temperatures, given / given.sum())
    return Pool(pooling, temperatures, plain.weights, temperature(plain.logits(members), labels))


def matched(members: Sequence[Logits], temperatures: Reals) -> Reals:
    """Return the log-probabilities of every member at its own temperature, (m, n, K)."""
    chances = np.stack([probabilities(each, float(own)) for each, own in zip(members, temperatures, strict=True)])
    logs: Reals = np.log(np.maximum(chances, SMALLEST))
    return logs


def linear_weights(chances: Reals, counts: Reals | None = None) -> Reals:
    """Return the convex weights (m,) of the linear pool with the smallest NLL.

    ``chances`` (m, n) are what each member gives the class of each image, ``counts`` (n,) how much each image counts. The NLL is convex in
    the weights, and the optimum is where no member has a mean ratio of its chance to the pool's above 1, and all that are in it have 1.
    """
    share = np.full(chances.shape[1], 1 / chances.shape[1]) if counts is None else counts / counts.sum()

    def loss(weights: Reals) -> tuple[float, Reals]:
        pooled = np.maximum(weights @ chances, SMALLEST)
        return -float(share @ np.log(pooled)), -(chances @ (share / pooled))

    return _on_the_simplex(loss, len(chances))


def geometric_weights(logs: Reals, labels: Labels) -> Reals:
    """Return the convex weights (m,) of the geometric pool of log-probabilities (m, n, K) with the smallest NLL, which is convex too."""
    right = logs[:, np.arange(len(labels)), labels]

    def loss(weights: Reals) -> tuple[float, Reals]:
        pooled = np.tensordot(weights, logs, 1)
        expected = np.einsum("mnk,nk->mn", logs, probabilities(pooled))
        return -float(log_likelihoods(pooled, labels).mean()), (expected - right).mean(axis=1)

    return _on_the_simplex(loss, len(logs))


def greedy_weights(chances: Reals, *, rounds: int = 50) -> Reals:
    """Return the weights (m,) of greedy selection with replacement by NLL, as they were when it was lowest (Caruana et al. 2004)."""
    total, taken = np.zeros(chances.shape[1]), np.zeros(len(chances))
    best, lowest = taken, np.inf
    for size in range(1, rounds + 1):
        losses = -np.log(np.maximum((total + chances) / size, SMALLEST)).mean(axis=1)
        chosen = int(losses.argmin())
        total = total + chances[chosen]
        taken[chosen] += 1
        if losses[chosen] < lowest:
            best, lowest = taken / size, losses[chosen]
    return best


def shrunk_weights(chances: Reals, labels: Labels, *, folds: int = 5, seed: int = 0) -> tuple[Reals, float]:
    """Return the solver's weights moved towards equal ones, and how far (0: not, 1: all the way), as stratified cross-validation says.

    Of steps that do equally well the largest is taken. The members' temperatures are not fitted anew in each fold.
    """
    members, images = chances.shape
    mixed = np.random.default_rng(seed).permutation(images)
    fold = np.empty(images, int)
    fold[mixed[np.argsort(labels[mixed], kind="stable")]] = np.arange(images) % folds
    steps = np.linspace(0, 1, 21)
    losses = np.zeros(len(steps))
    for held in range(folds):
        fitted = linear_weights(chances[:, fold != held])
        tried = np.outer(1 - steps, fitted) + steps[:, np.newaxis] / members
        losses -= np.log(np.maximum(tried @ chances[:, fold == held], SMALLEST)).sum(axis=1)
    step = float(steps[np.flatnonzero(losses <= losses.min() + 1e-9)[-1]])
    return (1 - step) * linear_weights(chances) + step / members, step


def weight_intervals(chances: Reals, labels: Labels, *, samples: int = 200, seed: int = 0) -> list[Interval]:
    """Return the 95 % interval of each of the solver's weights over the images (percentiles of the stratified bootstrap)."""
    fitted = [linear_weights(chances, counts) for counts in resampled(labels, samples, seed)]
    return [Interval(float(low), float(high)) for low, high in np.percentile(fitted, [2.5, 97.5], axis=0).T]


@dataclass(frozen=True)
class Grid:
    """The published way: of 100 weights of the first of two members, the first that gives the most hits."""

    meant: float  # index / 99: the weight that was tried
    read: float  # index / 100: the weight that is used, because the index is taken for percent
    accuracy: float  # of the weight that was tried, on the images it was chosen by
    equal: int  # how many of the 100 weights give as many hits


def published_grid(first: Logits, second: Logits, labels: Labels) -> Grid:
    """Choose the weight of two members by accuracy on a grid of 100, as notebooks do: no temperatures, and a slip in reading the weight."""
    tried = np.linspace(0, 1, 100)
    hits = np.array([accuracy(mixed(first, second, weight), labels) for weight in tried])
    index = int(hits.argmax())
    return Grid(float(tried[index]), index / 100, float(hits[index]), int(np.sum(hits == hits[index])))


def mixed(first: Logits, second: Logits, weight: float) -> Reals:
    """Return the logarithms of ``weight`` times the first model's probabilities and the rest of the second's, (n, K)."""
    return np.log(np.maximum(weight * probabilities(first) + (1 - weight) * probabilities(second), SMALLEST))


def _pooled(pooling: str, logs: Reals, weights: Reals) -> Reals:
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling!r}: must be one of {', '.join(POOLINGS)}")
    together: Reals = np.tensordot(weights, np.exp(logs) if pooling == "linear" else logs, 1)
    return np.log(together) if pooling == "linear" else together


def _on_the_simplex(loss: Callable[[Reals], tuple[float, Reals]], members: int) -> Reals:
    """Return where a convex loss, given with its gradient, is smallest among weights of at least 0 with sum 1."""
    found = minimize(
        loss,
        np.full(members, 1 / members),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights: Reals = np.where(found.x < 1e-9, 0, found.x)
    weights /= weights.sum()
    return weights
