"""Weights of an ensemble fitted to labelled images: solved, greedy, or shrunk, with intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from flowersweep.evaluation.calibration import probabilities
from flowersweep.evaluation.scores import Labels, Reals, log_likelihoods
from flowersweep.evaluation.statistics import Interval, resampled

ROUNDS = 50  # of greedy selection
FOLDS = 5  # of the cross-validation that shrinks weights
SMALLEST = 1e-12  # a probability: what a member holds impossible must not cost the pool everything


def linear_weights(chances: Reals, counts: Reals | None = None) -> Reals:
    """Return the convex weights (m,) of the linear pool with the smallest NLL.

    ``chances`` (m, n) are what each member gives the class of each image, ``counts`` (n,) how much
    each image counts. The NLL is convex in the weights, and the optimum is where no member has a
    mean ratio of its chance to the pool's above 1, and all that are in it have 1.
    """
    share = (
        np.full(chances.shape[1], 1 / chances.shape[1]) if counts is None else counts / counts.sum()
    )

    def loss(weights: Reals) -> tuple[float, Reals]:
        pooled = np.maximum(weights @ chances, SMALLEST)
        return -float(share @ np.log(pooled)), -(chances @ (share / pooled))

    return _on_the_simplex(loss, len(chances))


def geometric_weights(logs: Reals, labels: Labels) -> Reals:
    """Return the convex weights (m,) of the geometric pool with the smallest NLL.

    The log-probabilities are (m, n, K). The NLL is convex in the weights.
    """
    right = logs[:, np.arange(len(labels)), labels]

    def loss(weights: Reals) -> tuple[float, Reals]:
        pooled = np.tensordot(weights, logs, 1)
        expected = np.einsum("mnk,nk->mn", logs, probabilities(pooled))
        return -float(log_likelihoods(pooled, labels).mean()), (expected - right).mean(axis=1)

    return _on_the_simplex(loss, len(logs))


def greedy_weights(chances: Reals) -> Reals:
    """Return the weights (m,) of greedy selection with replacement (Caruana et al. 2004).

    They are those at which the NLL was lowest.
    """
    total, taken = np.zeros(chances.shape[1]), np.zeros(len(chances))
    best, lowest = taken, np.inf
    for size in range(1, ROUNDS + 1):
        losses = -np.log(np.maximum((total + chances) / size, SMALLEST)).mean(axis=1)
        chosen = int(losses.argmin())
        total = total + chances[chosen]
        taken[chosen] += 1
        if losses[chosen] < lowest:
            best, lowest = taken / size, losses[chosen]
    return best


def shrunk_weights(chances: Reals, labels: Labels) -> tuple[Reals, float]:
    """Return the solver's weights moved towards equal ones, and how far: 0 to 1.

    Stratified cross-validation chooses how far. Of steps that do equally well it takes the largest.
    The members' temperatures are not fitted anew in each fold.
    """
    members, images = chances.shape
    mixed = np.random.default_rng(0).permutation(images)
    fold = np.empty(images, int)
    fold[mixed[np.argsort(labels[mixed], kind="stable")]] = np.arange(images) % FOLDS
    steps = np.linspace(0, 1, 21)
    losses = np.zeros(len(steps))
    for held in range(FOLDS):
        fitted = linear_weights(chances[:, fold != held])
        tried = np.outer(1 - steps, fitted) + steps[:, np.newaxis] / members
        losses -= np.log(np.maximum(tried @ chances[:, fold == held], SMALLEST)).sum(axis=1)
    step = float(steps[np.flatnonzero(losses <= losses.min() + 1e-9)[-1]])
    return (1 - step) * linear_weights(chances) + step / members, step


def weight_intervals(chances: Reals, labels: Labels, *, samples: int = 200) -> list[Interval]:
    """Return the 95 % interval of each of the solver's weights over the images.

    The ends are percentiles of the stratified bootstrap.
    """
    fitted = [linear_weights(chances, counts) for counts in resampled(labels, samples, 0)]
    return [
        Interval(float(low), float(high))
        for low, high in np.percentile(fitted, [2.5, 97.5], axis=0).T
    ]


def _on_the_simplex(loss: Callable[[Reals], tuple[float, Reals]], members: int) -> Reals:
    """Return the weights of at least 0 with sum 1 at which a convex loss is smallest.

    The loss is given with its gradient.
    """
    solution = minimize(
        loss,
        np.full(members, 1 / members),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights: Reals = np.where(solution.x < 1e-9, 0, solution.x)
    weights /= weights.sum()
    return weights
