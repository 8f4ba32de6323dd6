"""Map between the values of a distribution and its shares, from 0 to 1."""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from flowersweep.config.paths import Settings
from flowersweep.space.space import Parameter


def value_count(distribution: BaseDistribution) -> int | None:
    """Return how many values a distribution has; None if it is continuous or logarithmic."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return len(choices)
        case _ if distribution.single():
            return 1
        case (
            IntDistribution(low=low, high=high, step=step, log=False)
            | FloatDistribution(low=low, high=high, step=float(step))
        ):
            return round((high - low) / step) + 1
    return None


def ppf(distribution: BaseDistribution, share: float) -> Any:
    """Return the value below which the share (0 to 1) of a distribution lies."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices[min(int(share * len(choices)), len(choices) - 1)]
        case IntDistribution(low=low, high=high, log=True):
            ends = math.log(low - 0.5), math.log(high + 0.5)
            return min(max(round(math.exp(ends[0] + share * (ends[1] - ends[0]))), low), high)
        case (
            IntDistribution(low=low, high=high, step=step)
            | FloatDistribution(low=low, high=high, step=int() | float() as step)
        ):
            count = round((high - low) / step) + 1
            # sums of floats may go beyond
            return min(low + step * min(int(share * count), count - 1), high)
        case FloatDistribution(low=low, high=high, log=log):
            value = low * (high / low) ** share if log else low + share * (high - low)
            return min(max(value, low), high)
    raise AssertionError(distribution)


def cdf(distribution: BaseDistribution, value: float) -> float:
    """Return the share (0 to 1) of a numerical distribution below a value; ``ppf`` inverts it."""
    match distribution:
        case IntDistribution(low=low, high=high, log=True):
            return math.log(value / (low - 0.5)) / math.log((high + 0.5) / (low - 0.5))
        case (
            IntDistribution(low=low, high=high, step=step)
            | FloatDistribution(low=low, high=high, step=int() | float() as step)
        ):
            return ((value - low) / step + 0.5) / (round((high - low) / step) + 1)
        case FloatDistribution(low=low, high=high, log=log):
            return (
                math.log(value / low) / math.log(high / low)
                if log
                else (value - low) / (high - low)
            )
    raise AssertionError(distribution)


def nearest_value(distribution: BaseDistribution, value: Any) -> Any:
    """Return the value of a distribution nearest to a setting; None if no value is comparable."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return next((choice for choice in choices if choice == value), None)
        case (
            IntDistribution(low=low, high=high, step=step)
            | FloatDistribution(low=low, high=high, step=step)
        ):
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            inside = min(max(value, low), high)
            nearest = low + round((inside - low) / step) * step if step else inside
            return nearest if isinstance(distribution, IntDistribution) else float(nearest)
    raise AssertionError(distribution)


def is_inside(distribution: BaseDistribution, setting: Any) -> bool:
    """Return whether a distribution has a setting among its values, but for rounding."""
    nearest = nearest_value(distribution, setting)
    numbers = isinstance(nearest, float) and isinstance(setting, int | float)
    return bool(nearest == setting) or (numbers and math.isclose(nearest, setting))


def current_value(leaves: Settings, parameter: Parameter) -> Any:
    """Return the setting of a parameter; for a group, the name of its option."""
    return leaves.get(parameter.path, leaves.get(f"{parameter.path}.name"))
