"""Pictures for people of what an augmentation does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from flowersweep.training.augment import Scalar, augment


def grid(
    seed: int,
    images: npt.NDArray[np.generic],
    strengths: Mapping[str, Scalar],
    rows: int,
    change: Callable[..., tuple[Array, Array]] = augment,
) -> npt.NDArray[np.uint8]:
    """Return one picture for people: the images (n, H, W, 3) side by side, and under them ``rows``
    draws of what a network sees.

    ``change`` is the augmentation; it compiles once for images of a size, whatever its
    ``strengths``.
    """
    shown = np.asarray(images, np.float32)
    drawn = [
        np.asarray(_drawn(change, np.uint32(seed), np.uint32(row), shown, dict(strengths)))
        for row in range(rows)
    ]
    return (
        np.concatenate([np.concatenate(list(row), axis=1) for row in (shown, *drawn)])
        .round()
        .astype(np.uint8)
    )


@partial(jax.jit, static_argnums=0)
def _drawn(
    change: Callable[..., tuple[Array, Array]],
    seed: Array,
    row: Array,
    images: Array,
    strengths: dict[str, Scalar],
) -> Array:
    return change(
        jax.random.fold_in(jax.random.key(seed), row), images, jnp.eye(len(images)), **strengths
    )[0]
