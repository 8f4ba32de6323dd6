"""Whether the evidence is enough for a promotion.

One candidate is chosen by its seeds on tune, and compared with the champion on holdout. Choosing
sees tune alone, comparing sees holdout alone. The comparison counts what other images and what
other seeds would have given: a candidate that is lucky in one of them stays a challenger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from flowersweep.evaluation.scores import Labels, Logits, Reals, macro_f1
from flowersweep.evaluation.statistics import macro_f1_of, resampled

# the chance of one at most, over all comparisons on the same held-out images
FALSE_CHAMPIONS = 0.05
AT_ONCE = 4_000_000  # predictions of all shuffles that are scored together


@dataclass(frozen=True)
class Candidate:
    """One configuration, trained with several seeds."""

    name: str
    changes: int  # settings in which it differs from the default: of equals the simpler is chosen
    tune: Sequence[float]  # the objective by seed, (s,)
    holdout: Sequence[Logits]  # by seed: (n, K)


@dataclass(frozen=True)
class ChanceTest:
    """Whether a candidate's macro F1 on holdout is better than with shuffled labels."""

    value: float  # mean macro F1 of the candidate's seeds
    chance: float  # the same against shuffled labels, on average
    p: float  # share of shuffles that score as well; drawing stops once it exceeds ``level``
    level: float
    comparison: int  # which comparison on these held-out images, counted from 1

    @property
    def better(self) -> bool:
        """Whether luck alone would rarely do as well."""
        return self.p <= self.level


@dataclass(frozen=True)
class Verdict:
    """The macro F1 of the chosen candidate less the champion's on holdout, with its interval."""

    value: float
    low: float
    high: float
    images: float  # standard error by the images
    seeds: float  # and by the seeds of both
    # that would settle it, if the difference is the one seen; inf if no number would
    more_images: float
    more_seeds: float  # of the candidate
    comparison: int  # which comparison on these held-out images, counted from 1
    confidence: float  # of the interval

    @property
    def better(self) -> bool:
        """Whether the interval says better."""
        return self.low > 0


def select_one_se(candidates: Sequence[Candidate], *, maximize: bool) -> int:
    """Return the index of the simplest candidate within one standard error of the best mean.

    See Breiman et al. 1984, section 3.4.3.

    The standard error is that of the best one's mean, from the variance over seeds of all
    candidates together.
    """
    sign = 1 if maximize else -1
    means = [sign * float(np.mean(candidate.tune)) for candidate in candidates]
    best = int(np.argmax(means))
    variance, _ = pooled_variance([candidate.tune for candidate in candidates])
    error = math.sqrt(variance / len(candidates[best].tune))
    within = [n for n, mean in enumerate(means) if mean >= means[best] - error]
    return min(within, key=lambda n: (candidates[n].changes, -means[n]))


def spent_alpha(comparison: int) -> float:
    """Return the one-sided level of the k-th comparison on some images, 5 % / (k (k + 1)).

    All levels together are 5 % (`FALSE_CHAMPIONS`). By the union bound, luck ever passes with at
    most that chance, however many comparisons there are and however they depend on one another
    (alpha spending: Foster & Stine 2008, section 2; the series is 1/2 + 1/6 + 1/12 + ... = 1). The
    first has half of it, 2.5 %, as an interval of 95 % has.

    Raises:
        ValueError: comparisons count from 1.
    """
    if comparison < 1:
        raise ValueError(f"comparison {comparison}: comparisons count from 1")
    return FALSE_CHAMPIONS / (comparison * (comparison + 1))


def compare_with_chance(
    chosen: Sequence[Logits], labels: Labels, *, comparison: int = 1, seed: int = 0
) -> ChanceTest:
    """Test the mean macro F1 of a candidate's seeds by permutation.

    The labels (n,) are shuffled, the predictions of ``chosen`` logits (n, K) stay.

    The test is exact for any shares of the classes: a constant prediction scores the same for
    every shuffle, so its p is 1. ``comparison`` is as in ``compare_with_champion``.
    """
    level, rng = spent_alpha(comparison), np.random.default_rng(seed)
    predicted = np.stack([logits.argmax(axis=1) for logits in chosen])
    values = _image_values(predicted, labels, chosen[0].shape[1])

    def scores(truth: Labels) -> Reals:
        right = truth[:, np.newaxis] == predicted
        means: Reals = np.where(right, values, 0.0).sum(axis=2).mean(axis=1)
        return means

    value, total = float(scores(labels[np.newaxis])[0]), math.ceil(10 / level)
    drawn, as_good, summed = 0, 0, 0.0
    at_once = 16  # a guess is soon known
    while drawn < total and as_good <= level * (total + 1):
        shuffled = rng.permuted(np.tile(labels, (min(at_once, total - drawn), 1)), axis=1)
        luck = scores(shuffled)
        drawn, summed = drawn + len(luck), summed + float(luck.sum())
        at_once = max(1, min(2 * at_once, AT_ONCE // predicted.size))
        as_good += int(np.sum(luck >= value - 1e-12))  # rounding makes no difference
    return ChanceTest(value, summed / drawn, (1 + as_good) / (1 + drawn), level, comparison)


def _image_values(predicted: npt.NDArray[np.integer], labels: Labels, classes: int) -> Reals:
    """Return what an image adds to the macro F1 if it is right, by seed, (s, n).

    Shuffles change neither how often a class occurs nor how often it is predicted.
    """
    occurs = np.bincount(labels, minlength=classes)
    both = np.stack([occurs + np.bincount(row, minlength=classes) for row in predicted])
    shares = 2 / np.maximum(both, 1) / (both > 0).sum(axis=1, keepdims=True)
    values: Reals = np.take_along_axis(shares, predicted, axis=1)
    return values


def spent_budget(comparisons: int) -> float:
    """Return what so many comparisons on the same images have spent of `FALSE_CHAMPIONS`."""
    return FALSE_CHAMPIONS * comparisons / (comparisons + 1)


def compare_with_champion(
    chosen: Sequence[Logits],
    champion: Logits,
    labels: Labels,
    seeds: Sequence[Sequence[Logits]],
    *,
    comparison: int = 1,
    samples: int = 1000,
) -> Verdict:
    """Compare the mean macro F1 of a candidate's seeds with the champion's on the same images.

    The error has two parts. That of the images comes from the stratified paired bootstrap. That of
    the seeds is pooled over the candidates, and counts for the champion too, which has one seed;
    where every candidate has one seed, it is not known, and 0. The half-widths of both are added in
    squares. That of the images is normal. That of the seeds is Student's, at a level divided by the
    number of candidates (Bonferroni), because the seeds chose the candidate.

    Args:
        chosen: Logits (n, K) of the candidate, by seed.
        champion: Logits (n, K).
        labels: Classes (n,).
        seeds: Logits of every candidate, by seed.
        comparison: Which comparison on these images this is, counted from 1. A later one has a
            wider interval; see ``spent_alpha``.
        samples: Of the bootstrap.
    """
    alpha = spent_alpha(comparison)
    z = float(stats.norm.ppf(1 - alpha))

    def score(logits: Logits) -> float:
        return macro_f1(logits, labels, champion.shape[1])

    value = float(np.mean([*map(score, chosen)])) - score(champion)
    images = _error_of_images(chosen, champion, labels, samples)
    variance, freedom = pooled_variance([[*map(score, logits)] for logits in seeds])
    of_seeds = math.sqrt(variance * (1 / len(chosen) + 1))
    student = float(stats.t.ppf(1 - alpha / len(seeds), freedom)) if freedom else 0.0
    half = math.hypot(z * images, student * of_seeds)
    low, high = value - half, value + half
    needed: tuple[float, float] = (
        (0, 0) if low > 0 else _needed(value, z, images, variance, len(chosen), len(labels))
    )
    return Verdict(value, low, high, images, of_seeds, *needed, comparison, 1 - 2 * alpha)


def _error_of_images(
    chosen: Sequence[Logits], champion: Logits, labels: Labels, samples: int
) -> float:
    """Return the standard error of a difference by the stratified paired bootstrap."""
    weights = resampled(labels, samples, 0)
    *candidate, other = (
        macro_f1_of(logits.argmax(axis=1), labels, champion.shape[1])(weights)
        for logits in (*chosen, champion)
    )
    return float(np.std(np.mean(candidate, axis=0) - other))


def pooled_variance(by_seed: Sequence[Sequence[float] | Reals]) -> tuple[float, int]:
    """Return the variance over seeds within candidates, and its degrees of freedom.

    Both are 0 if each candidate has one seed.
    """
    freedom = sum(len(values) - 1 for values in by_seed)
    squares = sum(float(np.sum((np.asarray(values) - np.mean(values)) ** 2)) for values in by_seed)
    return (squares / freedom, freedom) if freedom else (0.0, 0)


def _needed(
    value: float, z: float, images: float, variance: float, seeds: int, count: int
) -> tuple[float, float]:
    """Return how many more images alone, or more seeds alone, would settle a difference."""
    if not value > 0:
        return math.inf, math.inf
    # the standard error that would do, with a power of .8
    whole = value / (z + stats.norm.ppf(0.8))

    def alone(part: float, rest: float, held: int) -> float:
        left = whole**2 - rest
        return max(0, math.ceil(held * part / left) - held) if left > 0 else math.inf

    return alone(images**2, variance * (1 / seeds + 1), count), alone(
        variance / seeds, images**2 + variance, seeds
    )


def to_dict(verdict: Verdict | ChanceTest) -> dict[str, Any]:
    """Return a verdict as plain data, with ``better``; what no number would settle is None."""
    numbers = vars(verdict).items()
    return {
        **{name: value if math.isfinite(value) else None for name, value in numbers},
        "better": verdict.better,
    }
