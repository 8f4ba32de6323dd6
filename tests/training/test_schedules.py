"""Schedules: their shape, their limits, and that a change of budget changes no shape."""

from __future__ import annotations

import numpy as np
import pytest

from flowersweep.training.schedules import constant, cosine, exponential, one_cycle

SHAPE = {
    "warmup": 0.2,
    "warmup_start_factor": 0.1,
    "hold_fraction": 0.1,
    "half_life": 0.25,
    "final_factor": 0.05,
}


def at(done: float, **changed: float) -> float:
    return float(exponential(np.float32(done), **{**SHAPE, **changed}))


def test_the_rate_rises_in_a_line_holds_and_halves() -> None:
    assert at(0.0) == pytest.approx(0.1)
    assert at(0.1) == pytest.approx(0.55)
    assert at(0.2) == pytest.approx(1.0)
    assert at(0.29) == pytest.approx(1.0)
    assert at(0.3 + 0.25) == pytest.approx(0.05 + 0.95 / 2, rel=1e-5)
    assert at(0.3 + 0.5) == pytest.approx(0.05 + 0.95 / 4, rel=1e-5)


def test_without_warm_up_it_begins_at_the_maximum() -> None:
    assert at(0.0, warmup=0.0) == pytest.approx(1.0)


def test_the_published_decay_is_one_of_these_schedules() -> None:
    # 20 epochs, 5 of warm-up from 1e-5 to 4e-4, then the distance to 1e-5 shrinks by .8 an epoch:
    # half-life ln 2 / -ln .8 epochs
    half_life = np.log(2) / -np.log(0.8) / 20
    for epoch in range(5, 20):
        published = (4e-4 - 1e-5) * 0.8 ** (epoch - 5) + 1e-5
        ours = 4e-4 * at(
            epoch / 20,
            warmup=0.25,
            warmup_start_factor=0.025,
            hold_fraction=0.0,
            half_life=half_life,
            final_factor=0.025,
        )
        assert ours == pytest.approx(published, rel=1e-4)
    for epoch in range(5):
        published = (4e-4 - 1e-5) / 5 * epoch + 1e-5
        assert 4e-4 * at(epoch / 20, warmup=0.25, warmup_start_factor=0.025) == pytest.approx(
            published, rel=1e-5
        )


def test_cosine_ends_at_its_minimum_and_constant_stays() -> None:
    assert float(
        cosine(np.float32(1.0), warmup=0.1, warmup_start_factor=0.0, final_factor=0.2)
    ) == pytest.approx(0.2, abs=1e-6)
    assert float(
        cosine(np.float32(0.55), warmup=0.1, warmup_start_factor=0.0, final_factor=0.0)
    ) == pytest.approx(0.5, abs=1e-6)
    assert float(constant(np.float32(0.9), warmup=0.1, warmup_start_factor=0.0)) == pytest.approx(
        1.0
    )


def test_one_cycle_rises_and_falls_along_cosines() -> None:
    shape = {"warmup": 0.3, "warmup_start_factor": 0.04, "final_factor": 0.0}
    assert float(one_cycle(np.float32(0.0), **shape)) == pytest.approx(0.04)
    assert float(one_cycle(np.float32(0.15), **shape)) == pytest.approx(0.52)
    assert float(one_cycle(np.float32(0.3), **shape)) == pytest.approx(1.0)
    assert float(one_cycle(np.float32(0.65), **shape)) == pytest.approx(0.5, abs=1e-6)
    assert float(one_cycle(np.float32(1.0), **shape)) == pytest.approx(0.0, abs=1e-6)
