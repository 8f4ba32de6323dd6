"""Intervals over the images of a score and of a difference, and tests of two models.

An interval says what other images of the same kind would give. It knows nothing of other seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from flowersweep.evaluation.scores import Labels, Logits, Reals, accuracy, log_likelihoods, macro_f1

Predicted = npt.NDArray[np.integer]
CONFIDENCE = 0.95  # of all intervals
Statistic = Callable[[Reals], Reals]  # weights of the images (samples, n) -> scores (samples,)


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A number with the ends of its confidence interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A score of one model less that of another on the same images, with its interval."""

    value: float
    low: float
    high: float
    standard_error: float

    @property
    def resolved(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


class McNemar(NamedTuple):
    """How many images only one of two models gets right, and the two-sided p-values."""

    only_first: int
    only_second: int
    exact: float
    mid_p: float


def wilson(right: int, images: int) -> Interval:
    """Return the interval of an accuracy of ``right`` of ``images`` (Wilson 1927).

    It holds near 1, where Wald's does not.
    """
    interval = stats.binomtest(right, images).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def macro_f1_interval(
    predicted: Predicted, labels: Labels, classes: int, *, samples: int = 1000, seed: int = 0
) -> Interval:
    """Return the interval of the macro F1 of predictions int (n,) by the stratified bootstrap."""
    statistic = macro_f1_of(predicted, labels, classes)
    drawn = statistic(resampled(labels, samples, seed))
    return bias_corrected(drawn, float(statistic(np.ones((1, len(labels))))[0]))


def compare(
    first: Logits, second: Logits, labels: Labels, *, samples: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Return ``first`` less ``second`` in accuracy, macro F1 and NLL (nats).

    Both are logits (n, K) of the same images, and both are scored on the same resampled ones. What
    they have in common cancels, so a difference is far surer than either score. The interval is
    normal about the value: where a dozen images differ, percentiles of the samples are too coarse
    and cover too little.
    """
    classes, weights = first.shape[1], resampled(labels, samples, seed)
    values = {"accuracy": accuracy(first, labels) - accuracy(second, labels)}
    values["macro_f1"] = macro_f1(first, labels, classes) - macro_f1(second, labels, classes)
    hits = (first.argmax(axis=1) == labels) * 1.0 - (second.argmax(axis=1) == labels)
    losses = log_likelihoods(second, labels) - log_likelihoods(first, labels)
    values["nll"] = float(losses.mean())
    f1, other = (
        macro_f1_of(logits.argmax(axis=1), labels, classes)(weights) for logits in (first, second)
    )
    drawn = {
        "accuracy": weights @ hits / len(labels),
        "macro_f1": f1 - other,
        "nll": weights @ losses / len(labels),
    }
    wide, differences = float(stats.norm.ppf((1 + CONFIDENCE) / 2)), {}
    for name, value in values.items():
        error = float(drawn[name].std())
        differences[name] = Difference(value, value - wide * error, value + wide * error, error)
    return differences


def mcnemar(first: Predicted, second: Predicted, labels: Labels) -> McNemar:
    """Test whether two models are right equally often on the same images.

    It is tested exactly and by mid-p (Fagerland, Lydersen & Laake 2013). The exact p-value is never
    too small. Mid-p is nearer to its level on few images, and may pass it by a little.
    """
    right, others = first == labels, second == labels
    one, other = int(np.sum(right & ~others)), int(np.sum(others & ~right))
    tail, fewer = stats.binom(one + other, 0.5), min(one, other)
    exact = min(1.0, float(2 * tail.cdf(fewer)))
    return McNemar(one, other, exact, float(2 * tail.cdf(fewer) - tail.pmf(fewer)))


def resampled(labels: Labels, samples: int, seed: int) -> Reals:
    """Return how much each image counts in each sample of the stratified bootstrap, (samples, n).

    Of a class of m images m - 1 are drawn with replacement, and count m / (m - 1) each (Rao & Wu
    1988). Drawing m would give (m - 1) / m of the variance, which with 8 images a class makes of 95
    % a good 90 %. A class of one image stays as it is.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    size = np.bincount(labels)
    size = size[size > 0]
    draws = np.maximum(size - 1, 1)
    start = np.repeat(np.cumsum(size) - size, draws)
    images = order[
        start + (rng.random((samples, len(start))) * np.repeat(size, draws)).astype(np.int64)
    ]
    cells = (images + len(labels) * np.arange(samples)[:, np.newaxis]).ravel()
    share = np.empty(len(labels))
    share[order] = np.repeat(size / draws, size)
    return np.bincount(cells, minlength=samples * len(labels)).reshape(samples, -1) * share


def bias_corrected(drawn: Reals, value: float, confidence: float = CONFIDENCE) -> Interval:
    """Return the bias-corrected percentile interval of bootstrapped scores (samples,).

    Macro F1 is lower when resampled, and this corrects it (Efron 1981).
    """
    below = np.mean(drawn < value) + np.mean(drawn == value) / 2
    shift = 2 * stats.norm.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    ends = stats.norm.cdf(shift + stats.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.quantile(drawn, ends)
    return Interval(float(low), float(high))


def macro_f1_of(predicted: Predicted, labels: Labels, classes: int) -> Statistic:
    """Return the macro F1 as a function of the weights of the images.

    Sums by class are products of sparse matrices.
    """
    images = np.arange(len(labels))
    right = images[predicted == labels]

    def members(of: npt.NDArray[np.integer], rows: npt.NDArray[np.integer]) -> sparse.csr_array:
        return sparse.csr_array(
            (np.ones(len(rows)), (of[rows], rows)), shape=(classes, len(labels))
        )

    hits, guesses = members(labels, right), members(predicted, images)
    there = members(labels, images)

    def statistic(weights: Reals) -> Reals:
        both = guesses @ weights.T + there @ weights.T
        by_class = 2 * (hits @ weights.T) / np.maximum(both, 1e-9)
        scores: Reals = by_class.sum(axis=0) / (both > 0).sum(axis=0)
        return scores

    return statistic
