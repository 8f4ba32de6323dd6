"""How much luck flatters the best of many, and how well two scores agree on a ranking."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from flowersweep.evaluation.statistics import CONFIDENCE, Estimate


def expected_max_bias(
    configurations: int, standard_error: float, *, correlation: float = 0.0
) -> float:
    """Return how much the best of equal configurations flatters: E[max of K] of their errors.

    ``standard_error`` is that of one score; ``correlation`` is that of the errors of two, which
    share their images: only the part that they do not share can be picked. With the standard error
    s of a paired difference, give s / sqrt(2) and no correlation.
    """
    grid = np.linspace(-12, 12, 4801)
    # the distribution of the largest of K standard normal errors
    largest = stats.norm.cdf(grid) ** configurations
    expected = np.trapezoid((grid > 0) - largest, grid)
    return float(standard_error * math.sqrt(1 - correlation) * expected)


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation of two scores. Ties have their mean rank.

    None where it is not defined: for fewer than two things, or where one score is the same for all.
    """
    if len(first) < 2 or min(first) == max(first) or min(second) == max(second):
        return None
    return float(stats.spearmanr(first, second).statistic)


def rank_correlation(proxy: Sequence[float], full: Sequence[float]) -> Estimate:
    """Return Spearman's correlation of the same n >= 4 configurations under a proxy and in full.

    The interval is Fisher's, with the variance of Bonett & Wright 2000, (1 + r^2/2) / (n - 3).
    """
    if len(proxy) < 4 or len(proxy) != len(full):
        raise ValueError(
            f"a rank correlation needs at least 4 pairs; these are {len(proxy)} and "
            f"{len(full)} values"
        )
    value = float(stats.spearmanr(proxy, full).statistic)
    bounded = min(max(value, -0.999999), 0.999999)
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt((1 + bounded**2 / 2) / (len(proxy) - 3))
    return Estimate(
        value, math.tanh(math.atanh(bounded) - half), math.tanh(math.atanh(bounded) + half)
    )
