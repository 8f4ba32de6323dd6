"""Hide parts of each image under many small shapes: blocks of noise, or the squares of a grid.

A shape is rows times columns, so a mask is a product of small matrices and needs no gather.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

Scalar = Array | float

BLOCKS = 8  # of an image
LONGEST = 3.0  # the sides of a block differ by this factor at most
PERIODS = (0.125, 0.5)  # of a grid, in sides of the image


def erase_blocks(key: Array, images: Array, *, erasing: Scalar) -> Array:
    """Put noise in the place of several blocks of each image (random erasing, Zhong et al. 2020);
    the strength is that of `augment`.
    """
    placed, shaped, filled = jax.random.split(key, 3)
    centres = jax.random.uniform(placed, (2, len(images), BLOCKS))
    area, ratio = jax.random.uniform(shaped, (2, len(images), BLOCKS))
    # one share an image, cut evenly
    side = jnp.sqrt(erasing * area[:, :1] / BLOCKS)
    stretch = LONGEST ** (ratio - 0.5)
    inside = block_mask(images, centres, jnp.stack([side * stretch, side / stretch]))
    return jnp.where(inside, jax.random.uniform(filled, images.shape, maxval=255.0), images)


def block_mask(images: Array, centres: Array, sides: Array) -> Array:
    """Return which pixels lie in a block, bool (n, H, W, 1).

    ``centres`` and ``sides`` (2, n, b), down and right, in sides of the image.
    """
    rows, columns = (
        jnp.abs(jnp.arange(pixels) + 0.5 - middle[..., None] * pixels)
        < side[..., None] * pixels / 2.0
        for pixels, middle, side in zip(images.shape[1:3], centres, sides, strict=True)
    )
    covers = jnp.einsum("nbh,nbw->nhw", rows.astype(jnp.float32), columns.astype(jnp.float32))
    return covers[..., None] > 0.5


def hide_grid(key: Array, images: Array, *, grid_mask: Scalar) -> Array:
    """Paint the squares of a grid in the image's mean colour (GridMask, Chen et al. 2020); the
    strength is that of `augment`.
    """
    chance = jax.random.uniform(key, (4, len(images)))
    shortest, longest = PERIODS
    inside = grid_squares(
        images, shortest + (longest - shortest) * chance[0], chance[1:3], grid_mask * chance[3]
    )
    return jnp.where(inside, images.mean(axis=(1, 2), keepdims=True), images)


def grid_squares(images: Array, period: Array, phase: Array, share: Array) -> Array:
    """Return which pixels lie in a square of a grid, bool (n, H, W, 1).

    ``period`` (n,) is the distance of two squares in shorter sides of the image, ``phase`` (2, n)
    where the first one begins, down and right, in periods, and ``share`` (n,) a square's side in
    periods.
    """
    unit = period * min(images.shape[1:3])
    rows, columns = (
        jnp.mod((jnp.arange(pixels) + 0.5) / unit[:, None] - start[:, None], 1.0) < share[:, None]
        for pixels, start in zip(images.shape[1:3], phase, strict=True)
    )
    return (rows[:, :, None] & columns[:, None, :])[..., None]
