"""What choosing does to a score, against simulations."""

from __future__ import annotations

import numpy as np
import pytest

from flowersweep.evaluation.selection import expected_max_bias, rank_correlation


@pytest.mark.parametrize("configurations", [1, 2, 20, 100])
@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_best_of_equal_configurations_looks_better_by_this_much(
    configurations: int, correlation: float
) -> None:
    rng, runs, error = np.random.default_rng(configurations), 4000, 0.003
    shared = rng.normal(size=(runs, 1)) * np.sqrt(correlation)
    errors = error * (shared + rng.normal(size=(runs, configurations)) * np.sqrt(1 - correlation))
    best = errors.max(axis=1)
    assert abs(
        expected_max_bias(configurations, error, correlation=correlation) - best.mean()
    ) < 3.5 * best.std() / np.sqrt(runs)


def test_of_a_hundred_equal_ones_the_best_looks_two_and_a_half_errors_better() -> None:
    assert expected_max_bias(100, 0.30) == pytest.approx(0.752, abs=0.001)
    assert expected_max_bias(10**6, 1.0) == pytest.approx(4.863, abs=0.01)


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
