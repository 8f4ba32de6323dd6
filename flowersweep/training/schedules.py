"""Learning-rate schedules as functions of the fraction of the run that is done (0 to 1); they
return a fraction of the maximum.

Everything but that fraction is a traced hyperparameter: lengths are fractions of the run, rates
fractions of the maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Scalar = Array | float


def linear_warmup(done: Array, warmup: Scalar, warmup_start_factor: Scalar) -> Array:
    """Rise in a straight line from ``warmup_start_factor`` at 0 to 1 at ``warmup``, and stay there;
    without warm-up it is 1 at once.
    """
    return jnp.where(
        done < warmup,
        warmup_start_factor + (1.0 - warmup_start_factor) * done / jnp.maximum(warmup, 1e-9),
        1.0,
    )


def exponential(
    done: Array,
    *,
    warmup: Scalar,
    warmup_start_factor: Scalar,
    hold_fraction: Scalar,
    half_life: Scalar,
    final_factor: Scalar,
) -> Array:
    """Warm up, hold for ``hold_fraction``, then approach ``final_factor``, halving the distance
    every ``half_life``.
    """
    decayed = final_factor + (1.0 - final_factor) * jnp.exp2(
        -(done - warmup - hold_fraction) / half_life
    )
    return jnp.where(
        done < warmup + hold_fraction, linear_warmup(done, warmup, warmup_start_factor), decayed
    )


def cosine(
    done: Array, *, warmup: Scalar, warmup_start_factor: Scalar, final_factor: Scalar
) -> Array:
    """Warm up, then fall along half a cosine to ``final_factor`` at the end (Loshchilov & Hutter
    2017, eq. 5, without restarts).
    """
    rest = jnp.clip((done - warmup) / jnp.maximum(1.0 - warmup, 1e-9), 0.0, 1.0)
    return jnp.where(
        done < warmup,
        linear_warmup(done, warmup, warmup_start_factor),
        final_factor + (1.0 - final_factor) * 0.5 * (1.0 + jnp.cos(jnp.pi * rest)),
    )


def one_cycle(
    done: Array, *, warmup: Scalar, warmup_start_factor: Scalar, final_factor: Scalar
) -> Array:
    """Rise along half a cosine to 1 at ``warmup``, then fall along half a cosine to
    ``final_factor`` (after Smith & Topin 2018).
    """
    rise = jnp.clip(done / jnp.maximum(warmup, 1e-9), 0.0, 1.0)
    up = warmup_start_factor + (1.0 - warmup_start_factor) * 0.5 * (1.0 - jnp.cos(jnp.pi * rise))
    return jnp.where(
        done < warmup,
        up,
        cosine(
            done, warmup=warmup, warmup_start_factor=warmup_start_factor, final_factor=final_factor
        ),
    )


def constant(done: Array, *, warmup: Scalar, warmup_start_factor: Scalar) -> Array:
    """Warm up, then stay at the maximum."""
    return linear_warmup(done, warmup, warmup_start_factor)


def curve(
    schedule: Callable[..., Array], numbers: Mapping[str, Any], points: int = 101
) -> np.ndarray:
    """Return what a schedule gives at so many even steps from 0 to 1; other numbers compile
    nothing.
    """
    return np.asarray(
        _curve(
            schedule,
            np.linspace(0, 1, points, dtype=np.float32),
            jax.tree.map(np.float32, dict(numbers)),
        )
    )


@partial(jax.jit, static_argnums=0)
def _curve(schedule: Callable[..., Array], done: Array, numbers: dict[str, Array]) -> Array:
    return jax.vmap(lambda each: schedule(each, **numbers))(done)
