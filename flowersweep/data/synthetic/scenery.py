"""Draw everything but the flower: background, leaves, light and lens."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from flowersweep.data.synthetic.species import PETALS

Canvas = npt.NDArray[np.float32]  # (h, w, 3) in 0..1, drawn on in place
Plane = npt.NDArray[np.floating[Any]]  # (h, w), one value a pixel; or (h, w, 3)

_GROUNDS = {  # the two colours that the noise mixes
    "meadow": ((0.16, 0.30, 0.08), (0.52, 0.62, 0.22)),
    "leaves": ((0.06, 0.20, 0.08), (0.28, 0.50, 0.20)),
    "sky": ((0.45, 0.62, 0.85), (0.88, 0.93, 0.97)),
    "soil": ((0.20, 0.14, 0.09), (0.55, 0.44, 0.32)),
    "shade": ((0.02, 0.03, 0.02), (0.16, 0.20, 0.14)),
}
_FIELD = 512  # side of the noise fields, in pixels
_BLADE = np.array((0.30, 0.50, 0.16), np.float32)


def smooth(distance: Plane) -> Plane:
    """Turn a signed distance in pixels (positive inside) into a coverage in 0..1."""
    coverage: Plane = (distance + np.float32(0.5)).clip(0, 1)
    return coverage


def paint(canvas: Canvas, mask: Plane, color: Plane) -> None:
    """Blend ``color`` into ``canvas`` (h, w, 3) in place, with opacity ``mask`` (h, w)."""
    canvas += (color - canvas) * mask[..., None]


def background(habitat: str | None, side: int, rng: np.random.Generator) -> Canvas:
    """Paint a background: a habitat (None: any), blurred leaves and specks of other flowers."""
    dark, light = (
        np.array(color, np.float32)
        for color in _GROUNDS[habitat or str(rng.choice(list(_GROUNDS)))]
    )
    coarse, fine = _cut(int(rng.integers(2)), side, rng), _cut(2, side, rng)
    noise = coarse + rng.uniform(0, 0.4) * (fine - 0.5)
    canvas: Canvas = (dark + (light - dark) * noise[..., None]).astype(np.float32)
    for _ in range(int(rng.integers(0, 6))):
        blade(canvas, rng, soft=float(rng.uniform(1, 5)))
    for _ in range(int(rng.integers(0, 4))):
        _speck(canvas, rng)
    return canvas


def blade(canvas: Canvas, rng: np.random.Generator, soft: float = 1.0) -> None:
    """Draw a leaf across the canvas: the area between two arcs, with a midrib."""
    side = len(canvas)
    angle, curve = rng.uniform(0, np.pi), rng.normal(0, 0.5) / side
    x, y = rng.uniform(0, side, 2)
    length, width = side * rng.uniform(0.2, 0.7), side * rng.uniform(0.02, 0.09)
    pixels = np.arange(side, dtype=np.float32)
    dy, dx = pixels[:, None] - np.float32(y), pixels[None] - np.float32(x)
    along = dx * np.float32(np.cos(angle)) + dy * np.float32(np.sin(angle))
    across = (
        dy * np.float32(np.cos(angle))
        - dx * np.float32(np.sin(angle))
        + np.float32(curve) * along * along
    )
    inside = np.float32(width) * (1 - (along / np.float32(length)) ** 2).clip(0) - np.abs(across)
    color = _BLADE * rng.uniform(0.4, 1.3) + rng.normal(0, 0.06, 3)
    rib = 1 + 0.25 * smooth(0.6 - np.abs(across))[..., None]
    paint(canvas, smooth(inside / np.float32(soft)), color * rib)


def develop(canvas: Canvas, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Apply light, colour cast, blur and grain of a camera; return uint8 (h, w, 3)."""
    side = len(canvas)
    slope = np.linspace(-1, 1, side, dtype=np.float32)
    light = (
        1
        + np.float32(rng.normal(0, 0.1)) * slope[:, None]
        + np.float32(rng.normal(0, 0.1)) * slope[None]
    )
    cast = (rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3)).astype(np.float32)
    image = canvas * light[..., None] * cast
    for _ in range(int(rng.choice(3, p=[0.7, 0.25, 0.05]))):
        image[1:-1] = (image[:-2] + 2 * image[1:-1] + image[2:]) / 4
        image[:, 1:-1] = (image[:, :-2] + 2 * image[:, 1:-1] + image[:, 2:]) / 4
    contrast = np.float32(rng.uniform(0.85, 1.15))
    image = (image - 0.45) * contrast + 0.45
    image += rng.normal(0, rng.uniform(0.003, 0.025), (side, side, 1)).astype(np.float32)
    return (image.clip(0, 1) * 255).astype(np.uint8)


def _speck(canvas: Canvas, rng: np.random.Generator) -> None:
    side = len(canvas)
    rows = np.arange(side, dtype=np.float32)
    x, y = rng.uniform(0, side), rng.uniform(0, side)
    radius, soft = side * rng.uniform(0.02, 0.07), rng.uniform(3, 8)
    distance = radius - np.hypot(rows[None] - np.float32(x), rows[:, None] - np.float32(y))
    color = np.array(PETALS[str(rng.choice(list(PETALS)))], np.float32)
    paint(canvas, smooth(distance / np.float32(soft)), color)


def _cut(octave: int, side: int, rng: np.random.Generator) -> Plane:
    """Cut a window out of a noise field and flip it at random."""
    field: Plane = _fields()[octave]
    y, x = rng.integers(0, _FIELD, 2)
    rows, columns = (np.arange(y, y + side) % _FIELD, np.arange(x, x + side) % _FIELD)
    window: Plane = field[np.ix_(rows, columns)][
        :: int(rng.choice([-1, 1])), :: int(rng.choice([-1, 1]))
    ]
    return window


@lru_cache(maxsize=1)
def _fields() -> npt.NDArray[np.float32]:
    """Return periodic noise, coarse to fine: float32 (3, _FIELD, _FIELD) in 0..1."""
    rng = np.random.Generator(np.random.PCG64(0))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(_FIELD), np.fft.fftfreq(_FIELD)))
    spectrum = np.fft.fft2(rng.normal(size=(_FIELD, _FIELD)))
    fields = [
        np.fft.ifft2(spectrum * np.exp(-((frequency * scale) ** 2))).real
        for scale in (60.0, 20.0, 5.0)
    ]
    return np.stack([(field / (4 * field.std()) + 0.5).clip(0, 1) for field in fields]).astype(
        np.float32
    )
