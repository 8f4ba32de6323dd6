"""Points of a space: those a search starts from, a quasi-random sequence, a grid, and what a share of a distribution is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats.qmc import Halton

from flowersweep.compose import composed
from flowersweep.config import Settings, flatten
from flowersweep.errors import ConfigError
from flowersweep.search.space import Parameter, Params, Space

LARGEST_GRID = 10_000  # points, all of which are laid out before each trial


def starts(space: Space, recipe: str | None = None) -> list[Params]:
    """Return the points to begin with: the configuration as it stands, and that with what a published recipe has inside the space.

    A value outside the space is moved to its nearest end. The recipe is left out where another was chosen or it does not compose.
    """
    base = space.base
    points = [space.filled(lambda parameter: nearest(parameter.distribution, _at(base, parameter)))]
    try:
        other = dict(flatten(composed((*space.overrides, f"recipe={recipe}")))) if recipe and base["recipe"] in (None, "none") else base
    except ConfigError:
        other = base

    def value(parameter: Parameter) -> Any:
        there = _at(other, parameter)
        found = nearest(parameter.distribution, there)
        inside = found == there or (isinstance(there, float) and found is not None and math.isclose(found, there))
        return found if inside else nearest(parameter.distribution, _at(base, parameter))

    published = space.filled(value)
    return points if published in points else [*points, published]


def quasi_random(space: Space, number: int, seed: int) -> Params:
    """Return one point of a scrambled Halton sequence over the space (Owen 2017), of which each parameter has a coordinate of its own."""
    if not space.parameters:
        return {}
    sequence = Halton(len(space.parameters), scramble=True, rng=seed)
    shares = dict(zip((p.name for p in space.parameters), sequence.fast_forward(number).random(1)[0].tolist(), strict=True))
    return space.filled(lambda parameter: quantile(parameter.distribution, shares[parameter.name]))


def laid_out(space: Space, steps: int | None) -> list[Params]:
    """Return every point of the grid over a space, each branch with its own parameters alone."""
    values = {p.name: _values(p, steps) for p in space.parameters}
    most = math.prod(map(len, values.values()))
    if most > LARGEST_GRID:
        raise ConfigError(f"sampler=grid: {most} points are too many (at most {LARGEST_GRID}): fix parameters, or lower sampler.steps")
    points: list[Params] = [{}]
    for parameter in space.parameters:
        points = [
            {**point, **more}
            for point in points
            for more in ([{parameter.name: v} for v in values[parameter.name]] if parameter.active({**space.fixed, **point}) else [{}])
        ]
    return points


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
            f"sampler=grid: {parameter.name} is continuous. Say how many values it has, sampler.steps=5, "
            f"or which: sweep.space.{parameter.name}.values='choice(...)'"
        )
    shares = np.linspace(0.0, 1.0, steps) if steps > 1 else [0.5]
    return list(dict.fromkeys(quantile(parameter.distribution, float(share)) for share in shares))


def quantile(distribution: BaseDistribution, share: float) -> Any:
    """Return the value below which the share (0 to 1) of a distribution lies."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices[min(int(share * len(choices)), len(choices) - 1)]
        case IntDistribution(low=low, high=high, log=True):
            ends = math.log(low - 0.5), math.log(high + 0.5)
            return min(max(round(math.exp(ends[0] + share * (ends[1] - ends[0]))), low), high)
        case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=int() | float() as step):
            count = round((high - low) / step) + 1
            return low + step * min(int(share * count), count - 1)
        case FloatDistribution(low=low, high=high, log=log):
            value = low * (high / low) ** share if log else low + share * (high - low)
            return min(max(value, low), high)
    raise AssertionError(distribution)


def share_below(distribution: BaseDistribution, value: float) -> float:
    """Return the share (0 to 1) of a distribution of numbers that lies below a value: what `quantile` takes back to it."""
    match distribution:
        case IntDistribution(low=low, high=high, log=True):
            return math.log(value / (low - 0.5)) / math.log((high + 0.5) / (low - 0.5))
        case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=int() | float() as step):
            return ((value - low) / step + 0.5) / (round((high - low) / step) + 1)
        case FloatDistribution(low=low, high=high, log=log):
            return math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
    raise AssertionError(distribution)


def nearest(distribution: BaseDistribution, value: Any) -> Any:
    """Return the value of a distribution that is nearest to a setting; None if there is none."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return next((choice for choice in choices if choice == value), None)
        case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=step):
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            inside = min(max(value, low), high)
            moved = low + round((inside - low) / step) * step if step else inside
            return moved if isinstance(distribution, IntDistribution) else float(moved)
    raise AssertionError(distribution)


def _at(leaves: Settings, parameter: Parameter) -> Any:
    """The setting of a parameter; a group is known by its option's name."""
    return leaves.get(parameter.path, leaves.get(f"{parameter.path}.name"))
