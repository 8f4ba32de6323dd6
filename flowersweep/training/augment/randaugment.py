"""RandAugment (Cubuk et al. 2020) with one strength: two of twelve kinds of change an image, each
as strong as the others.

The kinds are those of the paper, in the meaning of Pillow, but for equalize, which needs a gather.
Both are made in a fixed order, so that all images of a batch go through one pass. Images are float
(n, H, W, 3) in 0..255.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowersweep.training.augment.geometry import resample, shear

Scalar = Array | float

KINDS = (
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "solarize",
    "posterize",
    "autocontrast",
    "colour",
    "contrast",
    "brightness",
    "sharpness",
)
# at full strength, as in the paper
DEGREES, SHEAR, TRANSLATION = 30.0, 0.3, 0.45
FACTOR = 0.9  # how far the factors of colour, contrast, brightness and sharpness are from 1
BITS = 4.0  # that posterize takes away
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def randaugment(key: Array, images: Array, *, strength: Scalar) -> Array:
    """Change each image by two different kinds; the strength is that of `augment`."""
    first, second, sign = jax.random.uniform(key, (3, len(images)))
    first = jnp.floor(first * len(KINDS))
    second = jnp.mod(first + 1.0 + jnp.floor(second * (len(KINDS) - 1)), len(KINDS))
    kinds = jnp.arange(len(KINDS))[:, None]
    drawn = (kinds == first) | (kinds == second)
    return change_by_kinds(
        images, jnp.where(drawn, jnp.where(sign < 0.5, -1.0, 1.0), 0.0), strength
    )


def change_by_kinds(images: Array, directions: Array, strength: Scalar) -> Array:
    """Change images by kinds, ``directions`` (kinds, n): -1, 1, or 0 where a kind is left out."""
    amounts = dict(zip(KINDS, strength * directions, strict=True))
    images = jnp.clip(_moved(images, amounts), 0.0, 255.0)
    amounts = {name: amount[:, None, None, None] for name, amount in amounts.items()}
    size = jnp.abs(amounts["solarize"])
    images = jnp.where((size > 0.0) & (images >= 256.0 * (1.0 - size)), 255.0 - images, images)
    step = jnp.exp2(jnp.round(BITS * jnp.abs(amounts["posterize"])))
    images = jnp.where(step > 1.0, jnp.floor(images / step) * step, images)
    images = _stretched(images, jnp.abs(amounts["autocontrast"]))
    for name, from_what in (
        ("colour", _grey),
        ("contrast", lambda images: _grey(images).mean(axis=(1, 2), keepdims=True)),
        ("brightness", jnp.zeros_like),
        ("sharpness", _smooth),
    ):
        # Pillow's enhancers go from a degenerate image (0) to the image (1) and beyond
        images = images + FACTOR * amounts[name] * (images - from_what(images))
        images = jnp.clip(images, 0.0, 255.0)
    return images


def _moved(images: Array, amounts: dict[str, Array]) -> Array:
    radians = jnp.radians(DEGREES * amounts["rotate"])
    turned = -jnp.tan(radians / 2.0)
    images = shear(
        images,
        turned + SHEAR * amounts["shear_x"],
        jnp.sin(radians) + SHEAR * amounts["shear_y"],
        turned,
        steepest=(0.6, 0.8, 0.3),
    )
    offset = TRANSLATION * jnp.stack([amounts["translate_y"], amounts["translate_x"]])
    return resample(images, jnp.ones_like(offset), offset)


def _stretched(images: Array, share: Array) -> Array:
    """Stretch each channel to 0..255, as far as ``share`` (n, 1, 1, 1) says."""
    low, high = (edge(axis=(1, 2), keepdims=True) for edge in (images.min, images.max))
    whole = (images - low) * 255.0 / jnp.where(high > low, high - low, 1.0)
    return jnp.where((share > 0.0) & (high > low), images + share * (whole - images), images)


def _grey(images: Array) -> Array:
    return (images * LUMA).sum(axis=-1, keepdims=True)


def _smooth(images: Array) -> Array:
    """Return Pillow's SMOOTH: a 3x3 mean in which the centre counts five times; the rim stays."""
    height, width = images.shape[1:3]
    if min(height, width) < 3:
        return images
    near = sum(
        images[:, row : height - 2 + row, column : width - 2 + column]
        for row in range(3)
        for column in range(3)
    )
    inner = images[:, 1:-1, 1:-1]
    change = (near + 4.0 * inner) / 13.0 - inner
    return images + jnp.pad(change, ((0, 0), (1, 1), (1, 1), (0, 0)))
