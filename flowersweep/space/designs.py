"""Designs of points in a space: initial points, a quasi-random sequence, and a grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from scipy.stats.qmc import Halton

from flowersweep.config.compose import compose_unchecked
from flowersweep.config.paths import flatten
from flowersweep.errors import ConfigError
from flowersweep.space.space import Parameter, Params, Space
from flowersweep.space.transforms import (
    current_value,
    is_inside,
    nearest_value,
    ppf,
    value_count,
)

LARGEST_GRID = 10_000  # points; each trial builds the whole grid
# what a sampler's option names, where no suggestion follows from the trials before
PLAIN_SAMPLERS = frozenset({"qmc", "grid", "optuna.samplers.RandomSampler"})
FEASIBILITY_POINTS = 2048  # sample size for the feasible share of a space


def initial_points(space: Space, recipe: str | None = None) -> Iterator[Params]:
    """Yield the feasible initial points: the configuration, then a published recipe.

    A setting outside the space moves to the nearest value inside; a setting of the recipe outside
    the space falls back to the configuration. The recipe is skipped if the user chose another one,
    or if it does not compose.
    """
    base = space.base

    def usual_value(parameter: Parameter) -> Any:
        return nearest_value(parameter.distribution, current_value(base, parameter))

    usual = space.fill_active(usual_value)
    if space.feasible(usual):
        yield usual  # before the slow composition of the recipe
    try:
        other = (
            dict(flatten(compose_unchecked((*space.overrides, f"recipe={recipe}"))))
            if recipe and base["recipe"] in (None, "none")
            else base
        )
    except ConfigError:
        other = base

    def value(parameter: Parameter) -> Any:
        setting = current_value(other, parameter)
        inside = is_inside(parameter.distribution, setting)
        return nearest_value(parameter.distribution, setting) if inside else usual_value(parameter)

    published = space.fill_active(value)
    if published != usual and space.feasible(published):
        yield published


def quasi_random(space: Space, number: int, seed: int) -> Params:
    """Return point ``number`` of a scrambled Halton sequence over the space (Owen 2017).

    Each parameter has its own coordinate. With constraints, only feasible points count.
    """
    if not space.constraints:
        return next(quasi_random_sequence(space, seed, skip=number))
    return next(islice(filter(space.feasible, quasi_random_sequence(space, seed)), number, None))


def quasi_random_sequence(space: Space, seed: int, skip: int = 0) -> Iterator[Params]:
    """Yield an endless scrambled Halton sequence over the space from point ``skip`` on."""
    while not space.parameters:
        yield {}
    names = [p.name for p in space.parameters]
    sequence = Halton(len(names), scramble=True, rng=seed)
    sequence.num_generated = skip  # fast_forward() would draw them all
    length = 1  # batches start small, since a caller may need only the first point
    while True:
        for row in sequence.random(length).tolist():
            shares = dict(zip(names, row, strict=True))
            yield space.fill_active(
                lambda p, shares=shares: ppf(p.distribution, shares[p.name])  # type: ignore[misc]
            )
        length = min(2 * length, FEASIBILITY_POINTS)


def feasible_share(space: Space) -> float:
    """Return the share (0 to 1) of evenly spread points that meet the constraints.

    Raises:
        ConfigError: No point meets them.
    """
    points = (
        [*islice(quasi_random_sequence(space, 0), FEASIBILITY_POINTS)]
        if space.constraints
        else [{}]
    )
    share = sum(map(space.feasible, points)) / len(points)
    if not share:
        shares = "; ".join(
            f"{c.text!r} is met by {sum(map(c.holds, points)) / len(points):.2g} of them"
            for c in space.constraints
        )
        raise ConfigError(
            f"sweep.constraints leave nothing: none of {len(points)} points of the space meets "
            f"them all ({shares}). Relax one"
        )
    return share


def grid_points(space: Space, steps: int | None) -> list[Params]:
    """Return every feasible point of the grid; each has only its active parameters."""
    if steps is not None and (not isinstance(steps, int) or steps is True or steps < 1):
        raise ConfigError(f"sampler.steps={steps!r}: must be a whole number, at least 1")
    size = math.prod(_count(p, steps) for p in space.parameters)
    if size > LARGEST_GRID:
        raise ConfigError(
            f"sampler=grid: {size} points are too many (at most {LARGEST_GRID}): fix parameters, "
            "or lower sampler.steps"
        )
    values = {p.name: _values(p, steps) for p in space.parameters}
    points: list[Params] = [{}]
    for parameter in space.parameters:
        points = [
            {**point, **choice}
            for point in points
            for choice in (
                [{parameter.name: v} for v in values[parameter.name]]
                if parameter.active({**space.fixed, **point})
                else [{}]
            )
        ]
    return [*filter(space.feasible, points)]


def _count(parameter: Parameter, steps: int | None) -> int:
    """Return how many values of a parameter a grid has, without making them."""
    if (count := value_count(parameter.distribution)) is not None:
        return count
    if steps is None:
        raise ConfigError(
            f"sampler=grid: {parameter.name} is continuous. Say how many values it has, "
            "sampler.steps=5, "
            f"or which: sweep.space.{parameter.name}.values='choice(...)'"
        )
    return steps


def _values(parameter: Parameter, steps: int | None) -> list[Any]:
    count = _count(parameter, steps)
    if count == 1 or value_count(parameter.distribution) is not None:
        return [ppf(parameter.distribution, (n + 0.5) / count) for n in range(count)]
    shares = np.linspace(0.0, 1.0, count).tolist()  # with both ends
    return list(dict.fromkeys(ppf(parameter.distribution, share) for share in shares))
