"""What a network is shown of an image when it predicts: the image, its mirror image, and both of
them a little closer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowersweep.training.augment.geometry import resample

if TYPE_CHECKING:
    from flowersweep.data.images import Images

CLOSER = 0.1  # of the side: what each further pair of views leaves out


def tta_views(images: Images, count: int) -> Iterator[Images]:
    """Yield ``count`` views of images, uint8 (n, H, W, 3), of the same shape.

    1: the image as it is; 2: its mirror image, left and right; 3: its central 90 % of both sides,
    stretched over the whole;
    4: the mirror image of that; 5 and 6: the same of its central 80 %.
    """
    for number in range(count):
        side = 1.0 - CLOSER * (number // 2)
        seen = images if side == 1.0 else np.asarray(_centre(images, np.float32(side)))
        yield seen[:, :, ::-1] if number % 2 else seen


@jax.jit
def _centre(images: Array, side: Array) -> Array:
    """Stretch the centre of each image, ``side`` of its height and width, over the whole of it, by
    products of matrices.
    """
    n = images.shape[0]
    seen = resample(images.astype(jnp.float32), jnp.full((2, n), side), jnp.zeros((2, n)))
    return jnp.clip(jnp.round(seen), 0.0, 255.0).astype(jnp.uint8)
