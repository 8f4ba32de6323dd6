"""Blocks of noise and squares of a grid against masks that are drawn shape by shape in NumPy."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
import scipy

from flowersweep.training.augment.hiding import (
    BLOCKS,
    block_mask,
    erase_blocks,
    grid_squares,
    hide_grid,
)
from tests.training.test_augment import flowers

KEY = jax.random.key(2)
CHANCE = np.random.default_rng(0)


@pytest.mark.parametrize(("height", "width"), [(20, 20), (17, 30)])
def test_blocks_cover_the_pixels_whose_centres_lie_in_one(height: int, width: int) -> None:
    centres = CHANCE.random((2, 3, BLOCKS)).astype(np.float32)
    sides = CHANCE.uniform(0, 0.4, (2, 3, BLOCKS)).astype(np.float32)
    expected = np.zeros((3, height, width, 1), bool)
    for n in range(3):
        for b in range(BLOCKS):
            for y in range(height):
                for x in range(width):
                    down = abs((y + 0.5) / height - centres[0, n, b]) < sides[0, n, b] / 2
                    right = abs((x + 0.5) / width - centres[1, n, b]) < sides[1, n, b] / 2
                    expected[n, y, x, 0] |= down and right
    found = jax.jit(block_mask)(np.zeros((3, height, width, 3)), centres, sides)
    np.testing.assert_array_equal(found, expected)


def published_grid(side: int, period: int, first: tuple[int, int], kept: int) -> np.ndarray:
    """The mask of GridMask's published code (mode 1, not rotated): True where a pixel is hidden.

    Stripes of ``kept`` pixels every ``period`` stay, along rows and along columns.
    """
    shown = np.zeros((side, side), bool)
    for number in range(-1, side // period + 1):
        for axis in (0, 1):
            start = first[axis] + number * period
            stripe = slice(max(start, 0), max(min(start + kept, side), 0))
            shown[(stripe, slice(None)) if axis == 0 else (slice(None), stripe)] = True
    return ~shown


@pytest.mark.parametrize("period", [4, 7, 12])
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_the_squares_of_a_grid_are_those_of_the_published_code(period: int, kept: int) -> None:
    side, first = 24, (1, 3)
    hidden = period - kept
    phase = np.float32([[(start + kept) / period] for start in first])
    found = jax.jit(grid_squares)(
        np.zeros((1, side, side, 3)),
        np.float32([period / side]),
        phase,
        np.float32([hidden / period]),
    )
    np.testing.assert_array_equal(found[0, ..., 0], published_grid(side, period, first, kept))


def hidden_share(before: Any, after: Any) -> np.ndarray:
    return (np.asarray(before) != np.asarray(after)).any(axis=-1).mean(axis=(1, 2))


@pytest.mark.parametrize("strength", [0.2, 0.6])
def test_blocks_hide_at_most_the_share_that_is_asked_for(strength: float) -> None:
    images = np.full((200, 32, 32, 3), 100.5, np.float32)
    hidden = hidden_share(images, erase_blocks(KEY, images, erasing=strength))
    assert hidden.max() < strength + 0.1  # pixels are whole
    assert strength / 4 < hidden.mean() < strength / 2  # from 0 up, and blocks overlap


def test_erased_pixels_are_even_noise() -> None:
    images = np.full((50, 32, 32, 3), -1.0, np.float32)
    erased = np.asarray(erase_blocks(KEY, images, erasing=0.9))
    noise = erased[erased >= 0.0] / 255.0
    assert noise.size > 20_000
    assert scipy.stats.kstest(noise, "uniform").statistic < 0.02


@pytest.mark.parametrize("strength", [0.3, 0.8])
def test_a_grid_hides_the_square_of_the_share_of_its_period(strength: float) -> None:
    images = CHANCE.uniform(0, 255, (2000, 32, 32, 3)).astype(np.float32)
    hidden = hidden_share(images, hide_grid(KEY, images, grid_mask=strength))
    assert hidden.max() < (strength + 0.25) ** 2  # periods are no whole pixels
    assert hidden.mean() == pytest.approx(strength**2 / 3, abs=0.02)  # the mean of u^2


def test_what_a_grid_hides_has_the_mean_colour_of_the_image() -> None:
    images = flowers(4)
    changed = np.asarray(hide_grid(KEY, images, grid_mask=0.8))
    for before, after in zip(images, changed, strict=True):
        painted = after[(before != after).any(axis=-1)]
        np.testing.assert_allclose(
            painted, np.broadcast_to(before.mean(axis=(0, 1)), painted.shape), rtol=1e-5
        )
