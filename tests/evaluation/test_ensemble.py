"""The weights of a pool fulfil the conditions of optimality, and what surrounds them works."""

from __future__ import annotations

import numpy as np
import pytest

from flowersweep.evaluation.calibration import temperature
from flowersweep.evaluation.ensemble import calibrated_log_probs, pool
from flowersweep.evaluation.scores import nll
from flowersweep.evaluation.weights import (
    geometric_weights,
    greedy_weights,
    linear_weights,
    shrunk_weights,
    weight_intervals,
)

CLASSES = 12


def models(images: int, signals: list[float], seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Logits of models that know so much each, with an error in common and one of their own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, images)
    truth, shared = np.eye(CLASSES)[labels], rng.normal(size=(images, CLASSES))
    return [
        signal * truth + shared + rng.normal(size=(images, CLASSES)) for signal in signals
    ], labels


def known(members: list[np.ndarray], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (m, n, K) of the members, and what each gives the class of each image (m,
    n).
    """
    logs = calibrated_log_probs(members, np.array([temperature(each, labels) for each in members]))
    return logs, np.exp(logs[:, np.arange(len(labels)), labels])


def loss(chances: np.ndarray, weights: np.ndarray) -> float:
    return -float(np.log(weights @ chances).mean())


@pytest.mark.parametrize(
    "signals", [[3.0, 2.5], [4.0, 3.0, 2.0, 1.0, 0.0], [3.0] * 15], ids=["two", "uneven", "fifteen"]
)
def test_the_weights_fulfil_the_conditions_of_the_optimum(signals: list[float]) -> None:
    """Karush, Kuhn and Tucker: the mean ratio of a member's chance to the pool's is 1 for members
    in the pool, and at most 1 for others.
    """
    _, chances = known(*models(400, signals))
    weights = linear_weights(chances)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    ratios = (chances / (weights @ chances)).mean(axis=1)
    np.testing.assert_allclose(ratios[weights > 1e-4], 1, atol=1e-4)
    assert ratios.max() < 1 + 1e-4
    assert greedy_weights(chances).sum() == pytest.approx(1)
    assert (
        loss(chances, weights)
        <= loss(chances, greedy_weights(chances)) + 1e-9
        <= loss(chances, weights) + 2e-3
    )


def test_counts_of_images_weigh_as_images_that_are_there_so_often() -> None:
    _, chances = known(*models(100, [3.0, 2.0]))
    counts = np.random.default_rng(0).integers(0, 4, 100)
    np.testing.assert_allclose(
        linear_weights(chances, counts),
        linear_weights(np.repeat(chances, counts, axis=1)),
        atol=1e-4,
    )


def test_the_geometric_weights_are_better_than_any_beside_them() -> None:
    members, labels = models(300, [3.0, 2.0, 2.5])
    logs, _ = known(members, labels)
    weights = geometric_weights(logs, labels)
    best = nll(np.tensordot(weights, logs, 1), labels)
    rng = np.random.default_rng(0)
    for other in [*rng.dirichlet(np.ones(3), 30), *(0.99 * weights + 0.01 * np.eye(3))]:
        assert best <= nll(np.tensordot(other, logs, 1), labels) + 1e-8


def test_equal_members_and_one_that_holds_the_truth_impossible_do_no_harm() -> None:
    members, labels = models(200, [3.0])
    mad = np.where(np.eye(CLASSES)[labels] > 0, -1e4, 1e4)
    _, chances = known([members[0], members[0], mad], labels)
    weights = linear_weights(chances)
    assert np.isfinite(weights).all()
    assert loss(chances, weights) <= loss(chances, np.array([1.0, 0, 0])) + 1e-9


def test_a_louder_member_has_no_more_to_say() -> None:
    members, labels = models(300, [3.0, 2.0])
    quiet, loud = pool(members, labels, [1, 1]), pool([members[0], 5 * members[1]], labels, [1, 1])
    np.testing.assert_allclose(
        quiet.logits(members), loud.logits([members[0], 5 * members[1]]), atol=2e-2
    )


@pytest.mark.parametrize("pooling", ["linear", "geometric"])
def test_the_pool_is_calibrated_and_beats_its_members(pooling: str) -> None:
    members, labels = models(1000, [3.0, 3.0, 3.0])
    pooled = pool([each[:500] for each in members], labels[:500], [2, 2, 2], pooling=pooling)
    np.testing.assert_allclose(pooled.weights, 1 / 3)
    assert temperature(
        pooled.logits([each[:500] for each in members]), labels[:500]
    ) == pytest.approx(1, rel=2e-3)
    held = pooled.logits([each[500:] for each in members])
    assert nll(held, labels[500:]) < min(
        nll(each[500:], labels[500:], temperature(each[500:], labels[500:])) for each in members
    )


def test_a_member_alone_predicts_as_it_did() -> None:
    members, labels = models(100, [3.0, 1.0])
    alone = pool(members, labels, [1, 0]).logits(members)
    np.testing.assert_array_equal(alone.argmax(axis=1), members[0].argmax(axis=1))
    with pytest.raises(ValueError, match="at least 0, and not all 0"):
        pool(members, labels, [0, 0])


def test_shrunk_weights_are_better_on_new_images_where_images_are_few_and_members_equal() -> None:
    lost = []
    for seed in range(20):
        members, labels = models(560, [3.0] * 6, seed)
        _, chances = known(members, labels)
        few, others = chances[:, :60], chances[:, 60:]
        shrunk, step = shrunk_weights(few, labels[:60])
        assert 0 <= step <= 1
        lost.append(loss(others, shrunk) - loss(others, linear_weights(few)))
    assert np.mean(lost) < -2 * np.std(lost) / np.sqrt(20)


def test_weights_stay_where_one_member_is_plainly_better() -> None:
    members, labels = models(1500, [5.0, 0.5, 0.5])
    weights, step = shrunk_weights(known(members, labels)[1], labels)
    assert step < 0.1
    assert weights[0] > 0.9


def test_more_images_make_the_weights_surer() -> None:
    widths = []
    for images in (60, 960):
        members, labels = models(images, [3.0, 3.0])
        _, chances = known(members, labels)
        low, high = weight_intervals(chances, labels, samples=60)[0]
        assert low - 1e-6 <= linear_weights(chances)[0] <= high + 1e-6
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
