"""What choosing does to a score, against simulations and against all cases counted."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from flowersweep.evaluation.selection import expected_best, expected_max_bias, more_needed, rank_correlation


@pytest.mark.parametrize("configurations", [1, 2, 20, 100])
@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_best_of_equal_configurations_looks_better_by_this_much(configurations: int, correlation: float) -> None:
    rng, runs, error = np.random.default_rng(configurations), 4000, 0.003
    shared = rng.normal(size=(runs, 1)) * np.sqrt(correlation)
    errors = error * (shared + rng.normal(size=(runs, configurations)) * np.sqrt(1 - correlation))
    best = errors.max(axis=1)
    assert abs(expected_max_bias(configurations, error, correlation=correlation) - best.mean()) < 3.5 * best.std() / np.sqrt(runs)


def test_of_a_hundred_equal_ones_the_best_looks_two_and_a_half_errors_better() -> None:
    assert expected_max_bias(100, 0.30) == pytest.approx(0.752, abs=0.001)
    assert expected_max_bias(10**6, 1.0) == pytest.approx(4.863, abs=0.01)


@pytest.mark.parametrize("maximize", [True, False])
def test_the_expected_best_is_the_mean_over_all_ways_to_draw(maximize: bool) -> None:
    values, best = [0.3, 0.1, 0.5, 0.5, 0.2], max if maximize else min
    drawn = [np.mean([best(each) for each in product(values, repeat=k)]) for k in range(1, 6)]
    chosen = [np.mean([best(each) for each in combinations(values, k)]) for k in range(1, 6)]
    np.testing.assert_allclose(expected_best(values, maximize=maximize), drawn)
    np.testing.assert_allclose(expected_best(values, maximize=maximize, replacement=False), chosen)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_the_interval_of_a_rank_correlation_covers_as_often_as_it_says(correlation: float) -> None:
    rng, runs = np.random.default_rng(0), 500
    truth = 6 / np.pi * np.arcsin(correlation / 2)  # of two normal variables
    covered = 0
    for _ in range(runs):
        one, noise = rng.normal(size=(2, 25))
        found = rank_correlation(one, correlation * one + np.sqrt(1 - correlation**2) * noise)
        covered += found.low <= truth <= found.high
    assert abs(covered / runs - 0.95) < 3 * np.sqrt(0.95 * 0.05 / runs)


def test_a_rank_correlation_of_the_same_order_is_one_and_three_pairs_are_too_few() -> None:
    found = rank_correlation([1, 2, 3, 4, 5], [1, 4, 9, 16, 25])
    assert found.value == pytest.approx(1)
    assert found.low < 1
    with pytest.raises(ValueError, match="at least 4 pairs"):
        rank_correlation([1, 2, 3], [1, 2, 3])


def test_so_many_more_images_settle_a_difference_four_times_in_five() -> None:
    rng, images, runs = np.random.default_rng(0), 200, 2000
    chances = [0.06, 0.03, 0.91]  # only the first is right, only the second, both or neither
    error = np.sqrt((0.09 - 0.03**2) / images)
    more = more_needed(0.03, error, images)
    first, second, _ = rng.multinomial(images + int(more), chances, size=runs).T / (images + more)
    standard = np.sqrt((first + second - (first - second) ** 2) / (images + more))
    assert np.mean(np.abs(first - second) > 1.96 * standard) == pytest.approx(0.8, abs=0.03)


def test_a_settled_difference_needs_no_more_and_none_at_all_is_never_settled() -> None:
    assert more_needed(0.05, 0.01, 810) == 0
    assert more_needed(0.0, 0.01, 810) == np.inf
    assert more_needed(-0.01, 0.01, 100) == more_needed(0.01, 0.01, 100) == 685
