"""Hide a part of each image, or mix it with another one and its target likewise.

The other one is the neighbour in the batch, which is in random order: across replicas only one
image has to travel.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

Scalar = Array | float


def apply_cutout(key: Array, images: Array, *, cutout: Scalar) -> Array:
    """Paint a square of each image in the image's mean colour (DeVries & Taylor 2017); the strength
    is that of `augment`.
    """
    chance = jax.random.uniform(key, (3, len(images)))
    inside, _ = box(images, chance[:2], cutout * chance[2])
    return jnp.where(inside > 0.0, images.mean(axis=(1, 2), keepdims=True), images)


def mix(
    key: Array,
    images: Array,
    targets: Array,
    *,
    probability: Scalar,
    mixup_alpha: Scalar,
    cutmix_alpha: Scalar,
    cutmix_share: Scalar,
) -> tuple[Array, Array]:
    """Blend each image with its neighbour (MixUp, Zhang et al. 2018), or paste a box of the
    neighbour (CutMix, Yun et al. 2019).

    The targets are mixed by the share of the pixels that come from the neighbour, which for a box
    that the edge cuts is less than what was drawn. A blend is half the image's own at least: of the
    same two, one is as likely as the other to have more of itself, and so no image is in a batch
    twice. ``probability`` is that of either, ``cutmix_share`` the part of it that is CutMix.
    """
    chances, drawn = jax.random.split(key)
    mixed, pasted, *centre = jax.random.uniform(chances, (4, len(images)))
    paste = pasted < cutmix_share
    share = jnp.where(
        mixed < probability, beta(drawn, jnp.where(paste, cutmix_alpha, mixup_alpha)), 0.0
    )
    inside, covered = box(images, jnp.stack(centre), jnp.sqrt(share))
    share = jnp.minimum(share, 1.0 - share)
    weight = jnp.where(paste[:, None, None, None], inside, share[:, None, None, None])
    share = jnp.where(paste, covered, share)[:, None]
    return _blended(images, weight), _blended(targets, share)


def _blended(values: Array, weight: Array) -> Array:
    return (1.0 - weight) * values + weight * jnp.roll(values, 1, axis=0)


def box(images: Array, centre: Array, side: Array) -> tuple[Array, Array]:
    """Return which pixels lie in a box, 0 or 1 (n, H, W, 1), and their share of the image (n,).

    ``centre`` (2, n), down and right, and ``side`` (n,) in sides of the image.
    """
    rows, columns = (
        (
            jnp.abs(jnp.arange(pixels) + 0.5 - middle[:, None] * pixels)
            < side[:, None] * pixels / 2.0
        ).astype(jnp.float32)
        for pixels, middle in zip(images.shape[1:3], centre, strict=True)
    )
    return rows[:, :, None, None] * columns[:, None, :, None], rows.mean(axis=1) * columns.mean(
        axis=1
    )


def beta(key: Array, alpha: Array) -> Array:
    """Draw from Beta(alpha, alpha) for each ``alpha`` (n,), without the loops of
    ``jax.random.beta``; alpha 0 gives 0 or 1.
    """
    first, second = (_log_gamma(part, jnp.maximum(alpha, 1e-4)) for part in jax.random.split(key))
    return jax.nn.sigmoid(first - second)


def _log_gamma(key: Array, alpha: Array, tries: int = 6) -> Array:
    """Draw logarithms of Gamma(alpha) variates (Marsaglia & Tsang 2000, section 8 for alpha below
    1).

    Each try is accepted with a probability above 0.95; should all fail, once in 10^8 draws, the
    variate is the distribution's mode.
    """
    normals, exponentials, last = jax.random.split(key, 3)
    shape = alpha + 2.0 / 3.0  # of Gamma(alpha + 1)
    logarithm = jnp.zeros_like(shape)
    for normal, exponential in zip(
        jax.random.normal(normals, (tries, *alpha.shape)),
        jax.random.exponential(exponentials, (tries, *alpha.shape)),
        strict=True,
    ):
        cubed = (1.0 + normal / jnp.sqrt(9.0 * shape)) ** 3
        log_cubed = jnp.log(jnp.maximum(cubed, 1e-30))
        accepted = (cubed > 0.0) & (
            -exponential < normal**2 / 2.0 + shape * (1.0 - cubed + log_cubed)
        )
        logarithm = jnp.where(accepted, log_cubed, logarithm)
    return jnp.log(shape) + logarithm - jax.random.exponential(last, alpha.shape) / alpha
