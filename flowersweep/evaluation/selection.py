"""What choosing does to a score: how good the best of many looks by luck, what more trials bring, and what would settle a question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from flowersweep.evaluation.scores import Reals


class Correlation(NamedTuple):
    """A rank correlation with the ends of its interval."""

    value: float
    low: float
    high: float


def expected_max_bias(configurations: int, standard_error: float, *, correlation: float = 0.0) -> float:
    """Return how much better than it is the best of equal configurations is expected to look: E[max of K] of their errors.

    ``standard_error`` is that of one score; ``correlation`` is that of the errors of two, which share their images: only the part that
    they do not share can be picked. With the standard error s of a paired difference, give s / sqrt(2) and no correlation.
    """
    grid = np.linspace(-12, 12, 4801)
    largest = stats.norm.cdf(grid) ** configurations  # the distribution of the largest of K standard normal errors
    expected = np.trapezoid((grid > 0) - largest, grid)
    return float(standard_error * math.sqrt(1 - correlation) * expected)


def expected_best(values: Sequence[float], *, maximize: bool = True, replacement: bool = True) -> Reals:
    """Return the expected best of k of n trials at random, for k = 1 to n, (n,): the expected validation performance.

    Dodge et al. 2019 (eq. 4) draw with replacement, which for k near n says too little; without it the estimate has no bias
    (Tang et al. 2020). It is for random and quasi-random trials: those of an adaptive sampler depend on their order.
    """
    ordered = np.sort(np.asarray(values, float))
    ordered = ordered if maximize else ordered[::-1]
    n, ranks = len(ordered), np.arange(len(ordered) + 1)
    chosen = ranks[1:, np.newaxis]  # k
    if replacement:
        reached = (ranks / n) ** chosen
    else:
        reached = np.array([[math.comb(int(rank), int(k)) / math.comb(n, int(k)) for rank in ranks] for k in chosen[:, 0]])
    best: Reals = np.diff(reached, axis=1) @ ordered  # the chance that the best of k is the i-th, times its value
    return best


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation of two scores of the same things; ties have their mean rank.

    None where it is not defined: for fewer than two things, or where one score is the same for all.
    """
    if len(first) < 2 or min(first) == max(first) or min(second) == max(second):
        return None
    return float(stats.spearmanr(first, second).statistic)


def rank_correlation(proxy: Sequence[float], full: Sequence[float], *, confidence: float = 0.95) -> Correlation:
    """Return Spearman's correlation of the same n >= 4 configurations under a proxy and in full.

    The interval is Fisher's, with the variance of Bonett & Wright 2000, (1 + r^2/2) / (n - 3).
    """
    if len(proxy) < 4 or len(proxy) != len(full):
        raise ValueError(f"a rank correlation needs at least 4 pairs; these are {len(proxy)} and {len(full)} values")
    value = float(stats.spearmanr(proxy, full).statistic)
    bounded = min(max(value, -0.999999), 0.999999)
    half = stats.norm.ppf((1 + confidence) / 2) * math.sqrt((1 + bounded**2 / 2) / (len(proxy) - 3))
    return Correlation(value, math.tanh(math.atanh(bounded) - half), math.tanh(math.atanh(bounded) + half))


def more_needed(difference: float, standard_error: float, count: int, *, power: float = 0.8, confidence: float = 0.95) -> float:
    """Return how many more images, or seeds, would settle a difference that was seen with ``count`` of them; inf for none at all.

    ``standard_error`` is that of the difference, paired, and falls with the root of the count. Settled means: if the true difference
    is the one seen, its interval leaves out zero with a chance of ``power``.
    """
    if difference == 0:
        return math.inf
    wanted = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    return float(max(0, math.ceil(count * (wanted * standard_error / difference) ** 2) - count))
