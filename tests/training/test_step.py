"""The dropout of the step: a traced rate, masks that are independent, and the expectation kept."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowersweep.training.step import dropout

ONES = jnp.ones((512, 1024))


def masks(rate: float, steps: int = 4) -> np.ndarray:
    keys = [jax.random.fold_in(jax.random.key(3), step) for step in range(steps)]
    return np.stack([np.asarray(dropout(key, ONES, jnp.float32(rate))) for key in keys])


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_rate_and_the_mean_stays(rate: float) -> None:
    dropped = masks(rate)
    error = np.sqrt(rate * (1 - rate) / dropped.size)
    assert np.mean(dropped == 0) == pytest.approx(rate, abs=5 * error)
    assert dropped.mean() == pytest.approx(1.0, abs=5 * error / (1 - rate))


def test_a_rate_of_zero_is_the_identity() -> None:
    np.testing.assert_array_equal(masks(0.0, 1)[0], ONES)


def test_masks_of_neighbours_and_of_steps_are_independent() -> None:
    kept = (masks(0.5) > 0) - 0.5
    bound = 5 * 0.25 / np.sqrt(512 * 1000)
    for one, other in [
        (kept[0], kept[1]),  # steps
        (kept[0][1:], kept[0][:-1]),  # images
        (kept[0][:, 1:], kept[0][:, :-1]),  # features
        (kept[0][:, 16:], kept[0][:, :-16]),
        (kept[0][2:, :], kept[0][:-2, :]),
    ]:
        assert abs(np.mean(one * other)) < bound
    # no image and no feature is dropped more often than chance has it
    for axis in (0, 1):
        counts = kept[0].mean(axis=axis) * np.sqrt(kept[0].shape[axis]) * 2
        assert np.std(counts) == pytest.approx(1.0, abs=0.2)
        assert np.abs(counts).max() < 5


def test_the_mask_is_a_function_of_the_key_alone() -> None:
    np.testing.assert_array_equal(masks(0.3), masks(0.3))
    assert not np.array_equal(masks(0.3)[0], masks(0.3)[1])
