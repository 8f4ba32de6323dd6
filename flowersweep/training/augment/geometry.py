"""Move pixels without gathers, which a TPU does one by one: windows and shears as products with
small interpolation matrices.

Images are float (n, H, W, C), H and W at least 2. What lies outside of them is their mirror image
about the outermost pixels.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

Scalar = Array | float

STEEPEST = 45.0  # degrees that `rotate` can turn
# in one pass of bfloat16, a TPU's default, the weights of a pixel would not add up to 1
PRECISION = "high"


def random_affine(
    key: Array,
    images: Array,
    *,
    flip: Scalar,
    crop: Scalar,
    aspect: Scalar,
    zoom: Scalar,
    shift: Scalar,
    rotation: Scalar,
) -> Array:
    """Look at each image through a window of its own, then turn it; the strengths are those of
    `augment`.
    """
    chance = jax.random.uniform(key, (9, len(images)), minval=-1.0, maxval=1.0)
    mirrored, area, ratio, size, turn = chance[:5]
    place, drift = chance[5:7], chance[7:9]
    side = jnp.sqrt(1.0 - crop * (area + 1.0) / 2.0)
    offset = place * (1.0 - side) / 2.0 + shift * drift
    stretch = jnp.exp(0.5 * jnp.log1p(aspect) * ratio)
    side = side * (1.0 + zoom * size)
    width = jnp.where((mirrored + 1.0) / 2.0 < flip, -side, side) * stretch
    return rotate(resample(images, jnp.stack([side / stretch, width]), offset), rotation * turn)


def resample(images: Array, scale: Array, offset: Array) -> Array:
    """Stretch a window of each image over the whole of it, bilinearly.

    ``scale`` (2, n) is the window's height and width, ``offset`` (2, n) how far its centre lies
    down and right of the image's, all in sides of the image. A negative scale mirrors.
    """
    rows, columns = (
        _weights(of[:, None] * _centred(side) + along[:, None] * side, side)
        for side, of, along in zip(images.shape[1:3], scale, offset, strict=True)
    )
    images = jnp.einsum("nip,npqc->niqc", rows, images, precision=PRECISION)
    return jnp.einsum("njq,niqc->nijc", columns, images, precision=PRECISION)


def rotate(images: Array, degrees: Array) -> Array:
    """Turn each image about its centre, counter-clockwise as seen, by ``degrees`` (n,), at most 45
    either way.

    Three shears make a rotation (Paeth 1986): along the rows, along the columns, along the rows.
    """
    radians, steepest = jnp.radians(jnp.clip(degrees, -STEEPEST, STEEPEST)), math.radians(STEEPEST)
    rows, along = -jnp.tan(radians / 2.0), math.tan(steepest / 2.0)
    return shear(images, rows, jnp.sin(radians), rows, steepest=(along, math.sin(steepest), along))


def shear(
    images: Array,
    rows: Array,
    columns: Array,
    rows_again: Array,
    *,
    steepest: tuple[float, float, float],
) -> Array:
    """Shear each image along its rows, its columns, and its rows again, by slopes (n,) that
    ``steepest`` bounds.
    """
    images = _shear(images, rows, steepest[0])
    images = _shear(images.swapaxes(1, 2), columns, steepest[1]).swapaxes(1, 2)
    return _shear(images, rows_again, steepest[2])


def turn(key: Array, images: Array, *, vertical_flip: Scalar, quarter_turns: Scalar) -> Array:
    """Turn each image upside down or by quarters; the probabilities are those of `augment`."""
    flipped, turned, quarters = jax.random.uniform(key, (3, len(images)))
    quarters = jnp.where(turned < quarter_turns, 1.0 + jnp.floor(3.0 * quarters), 0.0)
    return turn_by(images, quarters, flipped < vertical_flip)


def turn_by(images: Array, quarters: Array, upside_down: Array) -> Array:
    """Turn each image counter-clockwise by ``quarters`` (n,), 0 to 3, then upside down where
    ``upside_down`` (n,) says so.

    An image that is no square is stretched after an odd number of quarters.
    """
    quarters, upside_down = (each[:, None, None, None] for each in (quarters, upside_down))
    lying = images.swapaxes(1, 2)
    if lying.shape != images.shape:
        lying = jax.image.resize(lying, images.shape, "linear")
    images = jnp.where(jnp.mod(quarters, 2.0) == 1.0, lying, images)
    rows = ((quarters == 1.0) | (quarters == 2.0)) != upside_down
    images = jnp.where(rows, images[:, ::-1], images)
    return jnp.where(quarters >= 2.0, images[:, :, ::-1], images)


def _shear(images: Array, slope: Array, steepest: float) -> Array:
    """Return ``out[n, y, x] = images[n, y, x + slope[n] * (y - centre)]``, linear between pixels;
    ``steepest`` bounds the slopes.
    """
    by = slope[:, None] * _centred(images.shape[1])
    reach = math.ceil(steepest * (images.shape[1] - 1) / 2.0)
    # XLA makes the matrices of the rows inside of the product on a TPU; elsewhere it would first
    # write n H W W numbers to memory
    slid: Array = jax.lax.platform_dependent(
        images, by, tpu=slide_by_matrices, default=partial(slide_by_steps, reach=reach)
    )
    return slid


def slide_by_matrices(images: Array, by: Array) -> Array:
    """Return ``out[n, y, x] = images[n, y, x + by[n, y]]`` as a product with one matrix a row."""
    width = images.shape[2]
    return jnp.einsum(
        "nyjq,nyqc->nyjc",
        _weights(by[:, :, None] + _centred(width), width),
        images,
        precision=PRECISION,
    )


def slide_by_steps(images: Array, by: Array, reach: int) -> Array:
    """Return the same for ``by`` between -reach and reach: any whole number of pixels is a sum of a
    few fixed slides, each taken or not.
    """
    width, steps, most = images.shape[2], [], 2 * reach
    while most:  # what is left to slide by is at most this
        steps.append(most // 2 + 1)
        most //= 2
    images = jnp.pad(
        images, ((0, 0), (0, 0), (reach, sum(steps) - reach + 1), (0, 0)), mode="reflect"
    )
    left, part = jnp.divmod(by + reach, 1.0)
    for step in steps:
        taken = left >= step
        left = jnp.where(taken, left - step, left)
        images = jnp.where(taken[:, :, None, None], images[:, :, step:], images[:, :, :-step])
    part = part[:, :, None, None]
    return (1.0 - part) * images[:, :, :width] + part * images[:, :, 1:]


def _centred(side: int) -> Array:
    """Return the places of the pixels of a side as seen from its centre."""
    return jnp.arange(side) - (side - 1) / 2.0


def _weights(at: Array, side: int) -> Array:
    """Return how much each pixel of a side (last axis) counts at the places ``at``, in pixels from
    its centre.
    """
    at = jnp.mod(at + (side - 1) / 2.0, 2.0 * (side - 1))
    at = jnp.minimum(at, 2.0 * (side - 1) - at)
    return jnp.maximum(1.0 - jnp.abs(at[..., None] - jnp.arange(side)), 0.0)
