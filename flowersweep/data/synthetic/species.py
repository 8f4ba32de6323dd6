"""Invented flower species: the numbers that tell the drawn classes apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Color = npt.NDArray[np.float32]  # (3,), red, green, blue in 0..1

PETALS: dict[str, tuple[float, float, float]] = {
    "white": (0.95, 0.94, 0.90),
    "cream": (0.95, 0.88, 0.65),
    "yellow": (0.97, 0.82, 0.10),
    "orange": (0.96, 0.50, 0.08),
    "red": (0.82, 0.08, 0.10),
    "crimson": (0.55, 0.03, 0.18),
    "pink": (0.95, 0.60, 0.72),
    "magenta": (0.83, 0.12, 0.55),
    "lilac": (0.75, 0.60, 0.88),
    "violet": (0.42, 0.16, 0.62),
    "blue": (0.25, 0.35, 0.85),
    "salmon": (0.96, 0.60, 0.48),
}
CENTERS = (
    (0.90, 0.72, 0.10),
    (0.30, 0.18, 0.08),
    (0.60, 0.70, 0.20),
    (0.80, 0.40, 0.08),
    (0.25, 0.08, 0.25),
    (0.95, 0.93, 0.80),
)
HABITATS = ("meadow", "leaves", "sky", "soil", "shade")
_ARRANGEMENTS = ("single", "single", "single", "umbel", "spike", "cup")
_FORMS = {"single": "bloom", "umbel": "umbel", "spike": "spike", "cup": "cup"}


@dataclass(frozen=True)
class Species:
    """How one class is drawn; lengths are fractions of the flower's radius."""

    name: str
    arrangement: str  # single, umbel, spike, cup
    petals: int
    layers: int
    width: float  # 1: neighbouring petals just touch
    base: float  # exponent: small for petals that are broad at the base
    tip: float  # exponent: small for blunt tips, large for pointed ones
    notch: float  # depth of the dent in the tip
    color: Color
    tip_color: Color
    throat_color: Color
    throat: float  # radius of the throat
    veins: float  # strength of the lines along a petal
    spots: float  # share of a petal that is spotted
    edge: float  # width of the rim in the colour of the tip
    center: float  # radius of the disc; 0: none
    center_color: Color
    stamens: int
    corona: float  # radius of a trumpet around the disc; 0: none
    habitat: str  # where it is seen most often


def species_of(classes: int, seed: int) -> list[Species]:
    """Return ``classes`` species, in pairs of one genus: same build, other colour and details."""
    return [_species(number, seed) for number in range(classes)]


def _species(number: int, seed: int) -> Species:
    genus = np.random.Generator(np.random.PCG64([seed, 1, number // 2]))
    own = np.random.Generator(np.random.PCG64([seed, 2, number]))
    arrangement = str(genus.choice(_ARRANGEMENTS))
    petals = int(
        genus.choice([3, 4])
        if arrangement == "cup"
        else genus.choice([3, 4, 5, 5, 6, 8, 10, 13, 18, 24])
    )
    # The second species of a genus shifts its colour, so the two are never the same flower.
    color = list(PETALS)[(int(genus.integers(12)) + (number % 2) * int(genus.integers(2, 11))) % 12]
    many = petals > 9
    return Species(
        name=f"{color} {_FORMS[arrangement]} {number}",
        arrangement=arrangement,
        petals=petals,
        layers=_layers(genus) if arrangement == "single" else 1,
        width=float(genus.uniform(0.75, 1.1) if many else genus.uniform(0.5, 1.15))
        * float(own.uniform(0.9, 1.1)),
        base=float(genus.uniform(0.15, 0.8)),
        tip=float(genus.uniform(0.2, 1.1)) * float(own.uniform(0.8, 1.25)),
        notch=float(own.choice([0.0, 0.0, 0.12, 0.25])) if petals < 7 else 0.0,
        color=_color(PETALS[color]),
        tip_color=_color(PETALS[color if own.random() < 0.55 else str(own.choice(list(PETALS)))]),
        throat_color=_color(PETALS[str(own.choice(list(PETALS)))]),
        throat=float(own.choice([0.0, 0.3, 0.45])),
        veins=float(own.choice([0.0, 0.15, 0.45])),
        spots=float(own.choice([0.0, 0.0, 0.0, 0.25])),
        edge=float(own.choice([0.0, 0.0, 0.2])),
        center=float(genus.choice([0.0, 0.1, 0.18, 0.28, 0.4])) if arrangement != "cup" else 0.0,
        center_color=_color(CENTERS[int(own.integers(len(CENTERS)))]),
        stamens=int(own.choice([0, 0, 5, 9, 16])) if arrangement == "single" else 0,
        corona=float(genus.choice([0.0, 0.0, 0.0, 0.45]))
        if arrangement == "single" and not many
        else 0.0,
        habitat=str(genus.choice(HABITATS)),
    )


def _layers(genus: np.random.Generator) -> int:
    return int(genus.choice([1, 2, 3, 5], p=[0.45, 0.25, 0.15, 0.15]))


def _color(values: tuple[float, float, float]) -> Color:
    return np.array(values, np.float32)
