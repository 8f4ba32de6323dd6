"""Each kind of RandAugment against Pillow and SciPy, and how kinds are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import scipy
from PIL import Image, ImageEnhance, ImageOps

from flowersweep.training.augment.randaugment import KINDS, change_by_kinds, randaugment
from tests.training.test_augment import flowers, smooth, worst

_changed = jax.jit(change_by_kinds)
_random = jax.jit(randaugment)


def directions(sign: float, *kinds: str, images: int = 1) -> np.ndarray:
    """Directions (kinds, images): these kinds with a sign, all others left out."""
    chosen = [[sign if kind in kinds else 0.0] * images for kind in KINDS]
    return np.float32(chosen)


def enhanced(enhancer: Any) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, amount: enhancer(image).enhance(1.0 + 0.9 * amount)


def posterized(image: Image.Image, amount: float) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(4 * abs(amount)))


def solarized(image: Image.Image, amount: float) -> Image.Image:
    return ImageOps.solarize(image, round(256 * (1 - abs(amount))))


def stretched(image: Image.Image, amount: float) -> Image.Image:
    return Image.blend(image, ImageOps.autocontrast(image), abs(amount))


PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "solarize": solarized,
    "posterize": posterized,
    "autocontrast": stretched,
    "colour": enhanced(ImageEnhance.Color),
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("amount", [-1.0, -0.25, 0.5, 1.0])
@pytest.mark.parametrize("kind", PILLOW)
def test_a_change_of_colour_is_that_of_pillow(kind: str, amount: float) -> None:
    images = np.round(flowers(3, height=20, width=28) * 0.9 + 10.0)
    ours = _changed(
        images, np.sign(amount) * directions(1, kind, images=3), np.float32(abs(amount))
    )
    for image, mine in zip(images, ours, strict=True):
        theirs = PILLOW[kind](Image.fromarray(image.astype(np.uint8)), amount)
        assert worst(mine, np.asarray(theirs, np.float32)) <= 2.0  # Pillow rounds twice
    assert abs(amount) < 1.0 or worst(ours, images) > 10.0


SIDE = 65
INNER = np.s_[16:49, 16:49]  # beyond, what lies outside is mirrored more than once


def by_scipy(
    image: np.ndarray, matrix: list[list[float]], shift: tuple[float, float]
) -> np.ndarray:
    """Take each pixel from where the matrix puts it, about the centre."""
    centre = np.array([(SIDE - 1) / 2.0] * 2)
    offset = centre - np.array(matrix) @ centre + np.array(shift)
    return np.stack(
        [
            scipy.ndimage.affine_transform(channel, matrix, offset, order=1, mode="mirror")
            for channel in np.moveaxis(image, -1, 0)
        ],
        axis=-1,
    )


MOVES: dict[str, Callable[[float], tuple[list[list[float]], tuple[float, float]]]] = {
    "shear_x": lambda amount: ([[1.0, 0.0], [0.3 * amount, 1.0]], (0.0, 0.0)),
    "shear_y": lambda amount: ([[1.0, 0.3 * amount], [0.0, 1.0]], (0.0, 0.0)),
    "translate_x": lambda amount: ([[1.0, 0.0], [0.0, 1.0]], (0.0, 0.45 * amount * SIDE)),
    "translate_y": lambda amount: ([[1.0, 0.0], [0.0, 1.0]], (0.45 * amount * SIDE, 0.0)),
}


@pytest.mark.parametrize("amount", [-1.0, 0.4])
@pytest.mark.parametrize("kind", MOVES)
def test_a_shear_and_a_translation_are_those_of_scipy(kind: str, amount: float) -> None:
    image = smooth(SIDE)
    ours = _changed(image[None], np.sign(amount) * directions(1, kind), np.float32(abs(amount)))[0]
    assert worst(ours[INNER], by_scipy(image, *MOVES[kind](amount))[INNER]) < 0.05


@pytest.mark.parametrize("amount", [-1.0, 0.5])
def test_a_rotation_is_that_of_scipy(amount: float) -> None:
    image = smooth(SIDE)
    theirs = scipy.ndimage.rotate(image, 30.0 * amount, reshape=False, order=1, mode="mirror")
    ours = _changed(image[None], np.sign(amount) * directions(1, "rotate"), np.float32(abs(amount)))
    assert worst(ours[0][INNER], theirs[INNER]) < 0.5


@pytest.mark.parametrize(
    "pair", [("rotate", "shear_x"), ("rotate", "shear_y"), ("shear_x", "shear_y")]
)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_two_moves_at_full_strength_stay_smooth(pair: tuple[str, str], sign: float) -> None:
    """No row slides by more than the program has room for."""
    image = smooth(SIDE)
    moved = np.asarray(_changed(image[None], directions(sign, *pair), np.float32(1.0)))[0]
    for axis in (0, 1):
        assert np.abs(np.diff(moved, axis=axis)).max() < 4 * np.abs(np.diff(image, axis=0)).max()


def test_kinds_that_are_left_out_change_nothing() -> None:
    images = flowers(2)
    assert worst(_changed(images, directions(0, images=2), np.float32(1.0)), images) == 0.0


def test_two_different_kinds_are_drawn_evenly_and_the_strength_is_that_of_all() -> None:
    from flowersweep.training.augment import randaugment as module

    seen: list[tuple[np.ndarray, Any]] = []
    keep = pytest.MonkeyPatch()
    keep.setattr(
        module, "change_by_kinds", lambda images, drawn, strength: seen.append((drawn, strength))
    )
    with keep.context():
        module.randaugment(jax.random.key(0), np.zeros((12_000, 1, 1, 3)), strength=0.7)
    keep.undo()
    drawn, strength = np.asarray(seen[0][0]), seen[0][1]
    assert strength == 0.7
    assert set(np.unique(drawn)) == {-1.0, 0.0, 1.0}
    assert (np.abs(drawn).sum(axis=0) == 2).all()
    # each of 12 kinds in 2000 of 12000 images
    np.testing.assert_allclose(np.abs(drawn).sum(axis=1), 2000, atol=5 * np.sqrt(2000))
    assert abs(drawn.sum()) < 5 * np.sqrt(24_000)


def test_more_strength_is_more_change() -> None:
    images, key = flowers(16), jax.random.key(5)
    change = [
        np.abs(np.asarray(_random(key, images, strength=np.float32(strength))) - images).mean()
        for strength in (0.0, 0.1, 0.5, 1.0)
    ]
    assert change[0] < 1e-3 < change[1] < change[2] < change[3]
