"""Points of a space: those a search starts from, a quasi-random sequence, a grid, and what a share of a distribution is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats.qmc import Halton

from flowersweep.config.compose import compose_unchecked
from flowersweep.config.paths import flatten
from flowersweep.errors import ConfigError
from flowersweep.space.space import Parameter, Params, Space
from flowersweep.space.transforms import current_value, nearest_value, ppf

LARGEST_GRID = 10_000  # points, all of which are laid out before each trial


FEASIBILITY_POINTS = 2048  # of which the share that a space's constraints leave is told


def initial_points(space: Space, recipe: str | None = None) -> Iterator[Params]:
    """Yield the points to begin with: the configuration as it stands, and that with what a published recipe has inside the space.

    A value outside the space is moved to its nearest end. The recipe is left out where another was chosen or it does not compose. What
    does not meet the constraints is no point to begin with.
    """
    base = space.base
    usual = space.fill_active(
        lambda parameter: nearest_value(parameter.distribution, current_value(base, parameter))
    )
    if space.feasible(usual):
        yield usual  # before the recipe is composed, which takes longer than all else
    try:
        other = (
            dict(flatten(compose_unchecked((*space.overrides, f"recipe={recipe}"))))
            if recipe and base["recipe"] in (None, "none")
            else base
        )
    except ConfigError:
        other = base

    def value(parameter: Parameter) -> Any:
        there = current_value(other, parameter)
        found = nearest_value(parameter.distribution, there)
        inside = found == there or (
            isinstance(there, float) and found is not None and math.isclose(found, there)
        )
        return (
            found
            if inside
            else nearest_value(parameter.distribution, current_value(base, parameter))
        )

    published = space.fill_active(value)
    if published != usual and space.feasible(published):
        yield published


def quasi_random(space: Space, number: int, seed: int) -> Params:
    """Return one point of a scrambled Halton sequence over the space (Owen 2017), of which each parameter has a coordinate of its own.

    With constraints, one of the sequence's points that meet them.
    """
    if not space.constraints:
        return next(quasi_random_sequence(space, seed, skip=number))
    return next(islice(filter(space.feasible, quasi_random_sequence(space, seed)), number, None))


def quasi_random_sequence(space: Space, seed: int, skip: int = 0) -> Iterator[Params]:
    """Yield the points of a scrambled Halton sequence over the space without end, the first ``skip`` left out."""
    while not space.parameters:
        yield {}
    sequence, names = (
        Halton(len(space.parameters), scramble=True, rng=seed).fast_forward(skip),
        [p.name for p in space.parameters],
    )
    length = 1  # more and more at a time, for the first alone may be wanted
    while True:
        for drawn in sequence.random(length).tolist():
            shares = dict(zip(names, drawn, strict=True))
            yield space.fill_active(
                lambda parameter, shares=shares: ppf(parameter.distribution, shares[parameter.name])
            )  # type: ignore[misc]
        length = min(2 * length, FEASIBILITY_POINTS)


def feasible_share(space: Space) -> float:
    """Return the share (0 to 1) of a space that its constraints leave, of evenly spread points. Raises ConfigError if none is left."""
    points = (
        [*islice(quasi_random_sequence(space, 0), FEASIBILITY_POINTS)]
        if space.constraints
        else [{}]
    )
    share = sum(map(space.feasible, points)) / len(points)
    if not share:
        each = "; ".join(
            f"{c.text!r} is met by {sum(map(c.holds, points)) / len(points):.2g} of them"
            for c in space.constraints
        )
        raise ConfigError(
            f"sweep.constraints leave nothing: none of {len(points)} points of the space meets "
            f"them all ({each}). Relax one"
        )
    return share


def grid_points(space: Space, steps: int | None) -> list[Params]:
    """Return every point of the grid over a space, each branch with its own parameters alone."""
    values = {p.name: _values(p, steps) for p in space.parameters}
    most = math.prod(map(len, values.values()))
    if most > LARGEST_GRID:
        raise ConfigError(
            f"sampler=grid: {most} points are too many (at most {LARGEST_GRID}): fix parameters, "
            "or lower sampler.steps"
        )
    points: list[Params] = [{}]
    for parameter in space.parameters:
        points = [
            {**point, **more}
            for point in points
            for more in (
                [{parameter.name: v} for v in values[parameter.name]]
                if parameter.active({**space.fixed, **point})
                else [{}]
            )
        ]
    return [*filter(space.feasible, points)]


def _values(parameter: Parameter, steps: int | None) -> list[Any]:
    match parameter.distribution:
        case CategoricalDistribution(choices=choices):
            return [*choices]
        case IntDistribution(low=low, high=high, step=step, log=False):
            return [*range(low, high + 1, step)]
        case FloatDistribution(low=low, high=high, step=float(step)):
            return [low + n * step for n in range(round((high - low) / step) + 1)]
    if steps is None:
        raise ConfigError(
            f"sampler=grid: {parameter.name} is continuous. Say how many values it has, "
            "sampler.steps=5, "
            f"or which: sweep.space.{parameter.name}.values='choice(...)'"
        )
    shares = np.linspace(0.0, 1.0, steps) if steps > 1 else [0.5]
    return list(dict.fromkeys(ppf(parameter.distribution, float(share)) for share in shares))
