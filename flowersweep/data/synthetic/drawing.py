"""Draw cartoon flowers in polar coordinates, varied enough that a network can learn from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowersweep.data.synthetic.scenery import (
    Canvas,
    Plane,
    background,
    blade,
    develop,
    paint,
    smooth,
)
from flowersweep.data.synthetic.species import Species

_STEM = np.array((0.25, 0.42, 0.14), np.float32)
_FAN = 0.75  # radians: half the angle that the petals of a cup open to


@dataclass(frozen=True)
class View:
    """Place, size and orientation of one flower head, in pixels and radians."""

    x: float
    y: float
    radius: float
    turn: float  # in the plane of the petals
    tilt: float  # foreshortening; 1: seen from the front
    lean: float  # direction of the tilt


@dataclass(frozen=True)
class Polar:
    """The pixels of a window in polar coordinates of a flower head, (h, w) each."""

    r: Plane  # 1 at the radius of the flower
    angle: Plane  # 0 is up for a cup
    radius: float  # pixels


def picture(species: Species, side: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw one photograph of ``species``: uint8 (side, side, 3)."""
    canvas = background(species.habitat if rng.random() < 0.7 else None, side, rng)
    views = _views(species, side, rng)
    for view in views[:3]:
        _stem(canvas, view, rng)
    # Flowers of one species differ in shade.
    shade = (rng.uniform(0.9, 1.08) * rng.uniform(0.93, 1.06, 3)).astype(np.float32)
    for view in views:
        _head(canvas, view, species, shade, rng)
    for _ in range(int(rng.choice(4, p=[0.6, 0.25, 0.1, 0.05]))):
        blade(canvas, rng)
    return develop(canvas, rng)


def _views(species: Species, side: int, rng: np.random.Generator) -> list[View]:
    """Place the heads: one, a disc of them, or a column.

    Sizes and places vary as in hand-held photographs.
    """
    x, y = rng.normal(side / 2, side * 0.06, 2)
    size = side * rng.uniform(0.36, 0.52)
    lean, tilt = rng.uniform(0, np.pi), rng.uniform(0.7, 1.0)
    if species.arrangement == "umbel":
        spots = [
            (0.62 * np.sqrt(i / 9) * np.cos(2.4 * i), 0.62 * np.sqrt(i / 9) * np.sin(2.4 * i), 0.36)
            for i in range(9)
        ]
    elif species.arrangement == "spike":
        spots = [
            (0.22 * (-1) ** i * (1.2 - i / 9), 1.0 - 0.25 * i, 0.42 - 0.03 * i) for i in range(9)
        ]
    else:
        spots = [(0.0, 0.0, 1.0)]
    turn = rng.normal(0, 0.35) if species.arrangement == "cup" else rng.uniform(0, 2 * np.pi)
    spin = rng.normal(0, 0.25)
    cos, sin = np.cos(spin), np.sin(spin)
    places = [
        (
            x + size * (cos * a - sin * b),
            y + size * (sin * a + cos * b),
            size * s * rng.uniform(0.85, 1.15),
        )
        for a, b, s in spots
    ]
    if species.arrangement == "cup":
        return [View(px, py + r * 0.6, r * 1.5, turn, 1.0, 0.0) for px, py, r in places]
    return [View(px, py, r, turn + i, tilt, lean) for i, (px, py, r) in enumerate(places)]


def _stem(canvas: Canvas, view: View, rng: np.random.Generator) -> None:
    """Draw a curved line from the head to the lower edge."""
    rows = np.arange(max(int(view.y), 0), len(canvas), dtype=np.float32)[:, None]
    bend = rng.normal(0, 0.004) * (rows - view.y) ** 2 + rng.normal(0, 0.15) * (rows - view.y)
    across = np.arange(len(canvas), dtype=np.float32)[None] - view.x - bend
    mask = smooth(0.02 * len(canvas) + 0.5 - np.abs(across))
    paint(
        canvas[len(canvas) - len(rows) :], mask, _STEM * (1 + 0.02 * across.clip(-4, 4))[..., None]
    )


def _head(
    canvas: Canvas,
    view: View,
    species: Species,
    shade: npt.NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    window, polar = _look(canvas, view)
    if not window.size:
        return
    for layer in range(species.layers):
        _petals(window, polar, species, shade, layer, rng)
    if species.corona:
        edge = species.corona * (1 + 0.06 * np.cos(polar.angle * 11))
        depth = (polar.r / species.corona).clip(0, 1)[..., None]
        paint(
            window,
            smooth((edge - polar.r) * polar.radius),
            species.throat_color * shade * (0.55 + 0.45 * depth),
        )
    if species.center:
        grain = 1 + 0.25 * np.sin(polar.r * 40) * np.sin(polar.angle * 13 + polar.r * 30)
        paint(
            window,
            smooth((species.center - polar.r) * polar.radius),
            species.center_color * shade * grain[..., None],
        )
    if species.stamens:
        _stamens(window, polar, species)


def _look(canvas: Canvas, view: View) -> tuple[Canvas, Polar]:
    """Return the window around a head, and its pixels in polar coordinates of the petals' plane."""
    reach = int(view.radius * 1.15) + 2
    top, left = max(int(view.y) - reach, 0), max(int(view.x) - reach, 0)
    window = canvas[top : max(int(view.y) + reach, 0), left : max(int(view.x) + reach, 0)]
    dy = np.arange(top, top + window.shape[0], dtype=np.float32)[:, None] - view.y
    dx = np.arange(left, left + window.shape[1], dtype=np.float32)[None] - view.x
    cos, sin = np.float32(np.cos(view.lean)), np.float32(np.sin(view.lean))
    along, across = dx * cos + dy * sin, (dy * cos - dx * sin) / np.float32(view.tilt)
    x, y = along * cos - across * sin, along * sin + across * cos
    angle = np.arctan2(x, -y) - np.float32(view.turn)
    return window, Polar(np.hypot(x, y) / np.float32(view.radius), angle, view.radius)


def _petals(
    window: Canvas,
    polar: Polar,
    species: Species,
    shade: npt.NDArray[np.float32],
    layer: int,
    rng: np.random.Generator,
) -> None:
    """Draw one whorl of petals.

    ``u`` in -1..1 is the angle from a petal's axis, ``s`` the place along the petal. The petal is
    the area where ``u`` stays within a profile over ``s``.
    """
    number, u = _sectors(polar, species, layer)
    length = (1 - 0.17 * layer) * rng.normal(1, 0.05, species.petals).astype(np.float32)[number]
    if species.notch:
        length = length * (1 - species.notch * np.exp(-((u / 0.3) ** 2)))
    s = (polar.r / length).clip(1e-3, 1)
    peak = species.base / (species.base + species.tip)
    profile = (s / peak) ** species.base * ((1 - s) / (1 - peak)) ** species.tip * species.width
    scale = np.pi / species.petals * polar.r * polar.radius  # pixels per unit of u
    mask = smooth(np.minimum((profile - np.abs(u)) * scale, (length - polar.r) * polar.radius))
    inward = (species.throat and (1 - s / species.throat).clip(0, 1) ** 0.5) * np.ones_like(s)
    color = _mix(species.color, species.tip_color, (s * s)[..., None])
    if species.edge:
        rim = smooth(species.edge * 4 - (profile - np.abs(u)) * 4)
        color = _mix(color, species.tip_color * 0.9, rim[..., None])
    if species.spots:
        spot_mask = np.sin(s * 38) * np.sin(u * 9 + number * 2.0) > 1 - 2 * species.spots
        color = _mix(
            color,
            species.throat_color * 0.6,
            (spot_mask & (s < 0.75))[..., None].astype(np.float32),
        )
    color = _mix(color, species.throat_color, inward[..., None].astype(np.float32))
    relief = (
        1
        - 0.22 * u * u
        - 0.12 * u
        - species.veins * 0.5 * (1 + np.cos(u * 16)) * (1 - s)
        - 0.22 * (1 - s) ** 2
    )
    paint(window, mask, color * shade * (relief * (0.86 + 0.06 * layer))[..., None])


def _sectors(polar: Polar, species: Species, layer: int) -> tuple[npt.NDArray[np.intp], Plane]:
    """Return the petal of each pixel, and the place across it, -1..1 (beyond: between petals)."""
    count = species.petals
    if species.arrangement != "cup":
        phase = polar.angle * np.float32(count / (2 * np.pi)) + np.float32(layer * 0.5)
        number = np.floor(phase)
        return number.astype(np.intp) % count, 2 * (phase - number) - 1
    angle = (polar.angle + np.pi) % np.float32(2 * np.pi) - np.float32(np.pi)
    phase = angle * np.float32(count / (2 * _FAN)) + np.float32(count / 2)
    number = np.floor(phase).clip(0, count - 1)
    return number.astype(np.intp), 2 * (phase - number) - 1


def _stamens(window: Canvas, polar: Polar, species: Species) -> None:
    around = np.cos(polar.angle * species.stamens)
    out = species.center + 0.16
    mask = smooth((around - 0.8) * 6) * smooth((0.05 - np.abs(polar.r - out)) * polar.radius)
    paint(window, mask, species.center_color * 0.8)


def _mix(first: Plane, second: Plane, share: Plane) -> Plane:
    mixed: Plane = first + (second - first) * share
    return mixed
