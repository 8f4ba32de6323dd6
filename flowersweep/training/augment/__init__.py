"""Augmentation on the device: the host only decodes, and every strength is a traced number that a
sweep may vary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import Array

from flowersweep.training.augment.colour import recolour
from flowersweep.training.augment.geometry import random_affine, turn
from flowersweep.training.augment.hiding import erase_blocks, hide_grid
from flowersweep.training.augment.mixing import apply_cutout, mix
from flowersweep.training.augment.randaugment import randaugment as randaugment_by

Scalar = Array | float
Change = Callable[[Array], Array]


def augment(
    key: Array,
    images: Array,
    targets: Array,
    *,
    flip: Scalar = 0.0,
    crop: Scalar = 0.0,
    aspect: Scalar = 0.0,
    zoom: Scalar = 0.0,
    shift: Scalar = 0.0,
    rotation: Scalar = 0.0,
    hue: Scalar = 0.0,
    saturation: Scalar = 0.0,
    contrast: Scalar = 0.0,
    brightness: Scalar = 0.0,
    cutout: Scalar = 0.0,
    mix_probability: Scalar = 0.0,
    mixup_alpha: Scalar = 0.2,
    cutmix_alpha: Scalar = 1.0,
    cutmix_share: Scalar = 0.5,
    vertical_flip: Scalar = 0.0,
    quarter_turns: Scalar = 0.0,
    randaugment: Scalar = 0.0,
    erasing: Scalar = 0.0,
    grid_mask: Scalar = 0.0,
) -> tuple[Array, Array]:
    """Return images (n, H, W, 3) in 0..255, each changed by random numbers of its own, and their
    targets (n, K).

    A strength of 0 leaves its kind of change out. Each is the most that is drawn, uniformly, from
    both sides where there are two:

    - ``flip``: the probability that left and right change places
    - ``crop``: share of the image's area that a random window leaves out; ``aspect``: by how much
    its sides' ratio exceeds 1
    - ``zoom``, ``shift``: of the window's side, of the image's side; ``rotation``: degrees, at most
    45
    - ``hue``: turns around the circle; ``saturation``, ``contrast``: their factor's distance from
    1; ``brightness``: of the range 0..255
    - ``cutout``: side of a hidden square, of the image's side
    - ``mix_probability``: the probability that an image is mixed with another, and its target with
    it: by CutMix in ``cutmix_share``
      of the cases, else by MixUp, with a share drawn from Beta(alpha, alpha)
    - ``vertical_flip``: the probability that top and bottom change places; ``quarter_turns``: that
    of a turn by 90, 180 or 270 degrees
    - ``randaugment``: how strongly two of twelve kinds of change are made, of the paper's most;
    each image has this strength, and no less
    - ``erasing``: share of the image's area that blocks of noise cover together
    - ``grid_mask``: side of the hidden squares, of the distance between two of them
    """
    moved, coloured, hidden, mixed = jax.random.split(key, 4)
    images = random_affine(
        moved,
        images,
        flip=flip,
        crop=crop,
        aspect=aspect,
        zoom=zoom,
        shift=shift,
        rotation=rotation,
    )
    images = recolour(
        coloured, images, hue=hue, saturation=saturation, contrast=contrast, brightness=brightness
    )
    images = apply_cutout(hidden, images, cutout=cutout)
    images, targets = mix(
        mixed,
        images,
        targets,
        probability=mix_probability,
        mixup_alpha=mixup_alpha,
        cutmix_alpha=cutmix_alpha,
        cutmix_share=cutmix_share,
    )
    images = jnp.clip(images, 0.0, 255.0)
    later: dict[str, Scalar] = {
        "vertical_flip": vertical_flip,
        "quarter_turns": quarter_turns,
        "randaugment": randaugment,
        "erasing": erasing,
        "grid_mask": grid_mask,
    }
    # with a key of its own: of the changes before, every bit stays what it is without these
    change = partial(_change_later, jax.random.fold_in(key, 1), later)
    return _unless_zero(reduce(jnp.maximum, later.values()), change, images), targets


def _change_later(key: Array, later: Mapping[str, Scalar], images: Array) -> Array:
    """Make the changes that came later: each is a branch, which costs nothing at strength 0."""
    turned, varied, erased, squared = jax.random.split(key, 4)
    flip, quarters = later["vertical_flip"], later["quarter_turns"]
    changes: tuple[tuple[Scalar, Change], ...] = (
        (
            jnp.maximum(flip, quarters),
            partial(turn, turned, vertical_flip=flip, quarter_turns=quarters),
        ),
        (later["randaugment"], partial(randaugment_by, varied, strength=later["randaugment"])),
        (later["erasing"], partial(erase_blocks, erased, erasing=later["erasing"])),
        (later["grid_mask"], partial(hide_grid, squared, grid_mask=later["grid_mask"])),
    )
    for strength, change in changes:
        images = _unless_zero(strength, change, images)
    return images


def _unless_zero(strength: Scalar, change: Change, images: Array) -> Array:
    """Return the changed images, or at strength 0 the very images: the program branches, so that
    nothing is computed then.
    """
    changed: Array = jax.lax.cond(strength > 0.0, change, lambda images: images, images)
    return changed
