"""Move pixels without gathers, which a TPU does one by one: small interpolation matrices, and shears by doubling steps.

Images are float (n, H, W, C), H and W at least 2. What lies outside of them is their mirror image about the outermost pixels.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

Scalar = Array | float

STEEPEST = 45.0  # degrees that `rotate` can turn


def move(key: Array, images: Array, *, flip: Scalar, crop: Scalar, aspect: Scalar, zoom: Scalar, shift: Scalar, rotation: Scalar) -> Array:
    """Look at each image through a window of its own, then turn it; the strengths are those of `augment`."""
    chance = jax.random.uniform(key, (9, len(images)), minval=-1.0, maxval=1.0)
    mirrored, area, ratio, size, turn = chance[:5]
    place, drift = chance[5:7], chance[7:9]
    side = jnp.sqrt(1.0 - crop * (area + 1.0) / 2.0)
    offset = place * (1.0 - side) / 2.0 + shift * drift
    stretch = jnp.exp(0.5 * jnp.log1p(aspect) * ratio)
    height = side * (1.0 + zoom * size) / stretch
    width = side * (1.0 + zoom * size) * stretch
    width = jnp.where(mirrored + 1.0 < 2.0 * flip, -width, width)
    return rotate(resample(images, jnp.stack([height, width]), offset), rotation * turn)


def resample(images: Array, scale: Array, offset: Array) -> Array:
    """Stretch a window of each image over the whole of it, bilinearly.

    ``scale`` (2, n) is the window's height and width, ``offset`` (2, n) how far its centre lies down and right of the image's,
    all in sides of the image. A negative scale mirrors.
    """
    rows, columns = (_weights(side, *of) for side, *of in zip(images.shape[1:3], scale, offset, strict=True))
    # in one pass of bfloat16, the default on a TPU, the weights of a pixel would not add up to 1
    images = jnp.einsum("nip,npqc->niqc", rows, images, precision="high")
    return jnp.einsum("njq,niqc->nijc", columns, images, precision="high")


def _weights(side: int, scale: Array, offset: Array) -> Array:
    """Return (n, side, side): the share of each pixel of the image (last) in each pixel of the window."""
    middle = (side - 1) / 2.0
    at = scale[:, None] * (jnp.arange(side) - middle) + (middle + offset * side)[:, None]
    at = jnp.mod(at, 2.0 * (side - 1))
    at = jnp.minimum(at, 2.0 * (side - 1) - at)
    return jnp.maximum(1.0 - jnp.abs(at[:, :, None] - jnp.arange(side)), 0.0)


def rotate(images: Array, degrees: Array) -> Array:
    """Turn each image about its centre, counter-clockwise as seen, by ``degrees`` (n,), at most 45 either way.

    Three shears make a rotation (Paeth 1986): along the rows, along the columns, along the rows.
    """
    radians = jnp.radians(jnp.clip(degrees, -STEEPEST, STEEPEST))
    images = shear(images, -jnp.tan(radians / 2.0), steepest=math.tan(math.radians(STEEPEST / 2.0)))
    images = jnp.swapaxes(images, 1, 2)
    images = shear(images, jnp.sin(radians), steepest=math.sin(math.radians(STEEPEST)))
    images = jnp.swapaxes(images, 1, 2)
    return shear(images, -jnp.tan(radians / 2.0), steepest=math.tan(math.radians(STEEPEST / 2.0)))


def shear(images: Array, slope: Array, *, steepest: float) -> Array:
    """Slide each row by ``slope`` (n,) pixels for each row that it lies below the centre; ``steepest`` bounds the slopes.

    ``out[n, y, x] = images[n, y, x + slope[n] * (y - centre)]``, linear between pixels. A slide by any number of pixels is a
    sum of a few fixed ones, each taken or left out: memory grows with the image, as with a matrix for each row it would not.
    """
    height, width = images.shape[1:3]
    reach = math.ceil(steepest * (height - 1) / 2.0)
    steps = _steps(2 * reach)
    images = jnp.pad(images, ((0, 0), (0, 0), (reach, sum(steps) - reach + 1), (0, 0)), mode="reflect")
    by = reach + slope[:, None] * (jnp.arange(height) - (height - 1) / 2.0)
    left, part = jnp.divmod(by, 1.0)
    for step in steps:
        taken = left >= step
        left = jnp.where(taken, left - step, left)
        images = jnp.where(taken[:, :, None, None], images[:, :, step:], images[:, :, :-step])
    part = part[:, :, None, None]
    return (1.0 - part) * images[:, :, :width] + part * images[:, :, 1:]


def _steps(total: int) -> list[int]:
    """Return few numbers, largest first, such that each number up to ``total`` is what greedily taking some of them sums to."""
    steps = []
    while total:
        steps.append(total // 2 + 1)
        total //= 2
    return steps
