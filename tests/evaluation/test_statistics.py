"""Intervals cover the truth as often as they say, tests reject what is equal no oftener: simulated,
or all cases counted.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flowersweep.evaluation.scores import accuracy, macro_f1, nll
from flowersweep.evaluation.statistics import compare, macro_f1_interval, mcnemar, resampled, wilson

CLASSES = 20
BIG = 3000  # images a class: what a score is in truth


def two_models(
    rng: np.random.Generator, per_class: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of two models that err on much the same images, the second more often, and on some
    classes more than on others.
    """
    labels = np.repeat(np.arange(CLASSES), per_class)
    shared, own = rng.random(len(labels)), rng.random((2, len(labels)))
    logits = []
    for wrong, luck in zip((0.08, 0.14), own, strict=True):
        errs = np.where(luck < 0.7, shared, luck) < wrong * (0.5 + labels / CLASSES)
        predicted = np.where(errs, (labels + rng.integers(1, 4, len(labels))) % CLASSES, labels)
        logits.append(
            rng.normal(0, 0.5, (len(labels), CLASSES))
            + 4 * (predicted[:, np.newaxis] == np.arange(CLASSES))
        )
    return logits[0], logits[1], labels


def close(share: float, stated: float, runs: int) -> bool:
    """Whether a share of simulations is the stated one, within three of its standard errors."""
    return abs(share - stated) <= 3 * np.sqrt(stated * (1 - stated) / runs)


def test_the_interval_of_macro_f1_covers_as_often_as_it_says() -> None:
    rng, runs = np.random.default_rng(0), 500
    first, _, labels = two_models(rng, BIG)
    truth, covered = macro_f1(first, labels, CLASSES), 0
    for seed in range(runs):
        logits, _, labels = two_models(rng, 8)
        low, high = macro_f1_interval(
            logits.argmax(axis=1), labels, CLASSES, samples=300, seed=seed
        )
        covered += low <= truth <= high
    assert close(covered / runs, 0.95, runs)


def test_the_intervals_of_a_paired_difference_cover_as_often_as_they_say() -> None:
    rng, runs = np.random.default_rng(1), 500
    one, other, labels = two_models(rng, BIG)
    truth = {
        "accuracy": accuracy(one, labels) - accuracy(other, labels),
        "macro_f1": macro_f1(one, labels, CLASSES) - macro_f1(other, labels, CLASSES),
        "nll": nll(one, labels) - nll(other, labels),
    }
    covered = dict.fromkeys(truth, 0)
    for seed in range(runs):
        one, other, labels = two_models(rng, 8)
        for name, found in compare(one, other, labels, samples=300, seed=seed).items():
            covered[name] += found.low <= truth[name] <= found.high
    assert all(close(count / runs, 0.95, runs) for count in covered.values()), covered


def test_a_difference_is_what_the_scores_differ_by_and_surer_than_they_are() -> None:
    one, other, labels = two_models(np.random.default_rng(2), 40)
    found = compare(one, other, labels)
    assert found["accuracy"].value == pytest.approx(accuracy(one, labels) - accuracy(other, labels))
    assert found["macro_f1"].value == pytest.approx(
        macro_f1(one, labels, CLASSES) - macro_f1(other, labels, CLASSES)
    )
    assert found["nll"].value == pytest.approx(nll(one, labels) - nll(other, labels))
    assert found["nll"].low < found["nll"].value < found["nll"].high < 0
    assert found["nll"].resolved
    apart = np.hypot(
        *(
            np.sqrt(hits * (1 - hits) / len(labels))
            for hits in (accuracy(one, labels), accuracy(other, labels))
        )
    )
    assert found["accuracy"].standard_error < 0.9 * apart
    same = compare(one, one, labels)["macro_f1"]
    assert same == (0, 0, 0, 0)
    assert not same.resolved


def test_resampling_has_the_variance_of_a_mean_within_classes() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(6), [1, 2, 3, 8, 8, 30])
    values = rng.normal(labels, 1)
    weights = resampled(labels, 20_000, 0)
    sizes = np.bincount(labels)
    np.testing.assert_allclose(
        np.array([weights[:, labels == each].sum(axis=1) for each in range(6)]).T,
        np.tile(sizes, (20_000, 1)),
    )
    wanted = sum(
        size * np.var(values[labels == each], ddof=1) for each, size in enumerate(sizes) if size > 1
    )
    assert np.var(weights @ values) == pytest.approx(wanted, rel=0.05)


def test_the_interval_of_wilson_covers_as_often_as_it_says_near_one_too() -> None:
    images = 200
    chances = np.linspace(0.8, 0.985, 75)
    ends = np.array([wilson(right, images) for right in range(images + 1)])
    inside = (ends[:, 0] <= chances[:, np.newaxis]) & (chances[:, np.newaxis] <= ends[:, 1])
    covered = (stats.binom.pmf(np.arange(images + 1), images, chances[:, np.newaxis]) * inside).sum(
        axis=1
    )
    assert covered.mean() == pytest.approx(0.95, abs=0.005)
    assert covered.min() > 0.92


@pytest.mark.parametrize("discordant", [6, 15, 40])
def test_mcnemar_rejects_equal_models_no_oftener_than_it_says(discordant: int) -> None:
    """All splits of so many images on which just one model is right: equal models give each with a
    binomial chance.
    """
    rejected = {"exact": 0.0, "mid_p": 0.0}
    for only_first in range(discordant + 1):
        labels = np.zeros(discordant + 10, int)
        first, second = labels.copy(), labels.copy()
        second[:only_first], first[only_first:discordant] = 1, 1
        found = mcnemar(first, second, labels)
        assert (found.only_first, found.only_second) == (only_first, discordant - only_first)
        assert found.exact == pytest.approx(stats.binomtest(only_first, discordant).pvalue)
        for name in rejected:
            rejected[name] += stats.binom.pmf(only_first, discordant, 0.5) * (
                getattr(found, name) <= 0.05
            )
    assert rejected["exact"] <= 0.05
    assert rejected["exact"] <= rejected["mid_p"] <= 0.06


def test_models_that_never_differ_are_not_told_apart() -> None:
    labels = np.arange(5)
    assert mcnemar(labels, labels, labels)[2:] == (1.0, 1.0)
