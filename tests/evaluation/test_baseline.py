"""What a plain search would have found, against plain searches."""

from __future__ import annotations

import numpy as np
import pytest

from flowersweep.evaluation.baseline import best_of_points
from flowersweep.evaluation.scores import Reals

TRIALS, STARTS, NOISE = 24, 10, 0.02


def objective(points: Reals, rng: np.random.Generator) -> Reals:
    valley: Reals = 0.5 * np.sin(3 * points[:, 0]) + (points[:, 1] - 0.7) ** 2
    return valley + NOISE * rng.normal(size=len(points))


@pytest.mark.slow
@pytest.mark.parametrize("maximize", [False, True])
def test_the_best_of_a_plain_search_is_within_the_interval_though_the_trials_were_not_plain(
    maximize: bool,
) -> None:
    rng, sign, covered, adaptive = np.random.default_rng(0), -1 if maximize else 1, 0, 0
    for seed in range(10):
        # where an adaptive sampler would go
        near = np.clip([0.95, 0.7] + 0.1 * rng.normal(size=(TRIALS - STARTS, 2)), 0, 1)
        points = np.concatenate([rng.random((STARTS, 2)), near])
        values = sign * objective(points, rng)
        found = best_of_points(
            points,
            values,
            [rng.random((TRIALS, 2)) for _ in range(10)],
            maximize=maximize,
            seed=seed,
        )
        truth = [sign * objective(rng.random((TRIALS, 2)), rng) for _ in range(50)]
        bests = [(max if maximize else min)(each) for each in truth]
        covered += sum(found.low <= each <= found.high for each in bests)
        adaptive += found.low <= np.median(bests) <= found.high
    assert covered > 0.85 * 10 * 50
    assert adaptive >= 9
