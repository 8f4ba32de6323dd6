"""Convert a space and its values to KerasTuner, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from flowersweep.space.space import Parameter, Space
from flowersweep.space.transforms import cdf, ppf, value_count


def hyperparameters(space: Space) -> Any:
    """Return a space as KerasTuner hyperparameters.

    A parameter with steps becomes the number of its step, from 0. Any other becomes its share,
    from 0 to 1, as in ``ppf``; so its scale is the same as for every other sampler.
    """
    from keras_tuner.engine import hyperparameters as kinds
    from keras_tuner.src.engine.conditions import Parent

    result, searched = kinds.HyperParameters(), {p.name: p for p in space.parameters}
    for p in space.parameters:
        allowed = {
            name: _matching(searched[name], values)
            for name, values in p.when.items()
            if name in searched
        }
        if not all(allowed.values()):
            continue  # no trial can have this parameter
        conditions = [Parent(name, values) for name, values in allowed.items()]
        steps = value_count(p.distribution)
        if isinstance(p.distribution, CategoricalDistribution):
            result.merge([kinds.Choice(p.name, [*range(steps or 0)], conditions=conditions)])
        elif steps:
            result.merge([kinds.Int(p.name, 0, steps - 1, conditions=conditions)])
        else:
            result.merge([kinds.Float(p.name, 0.0, 1.0, conditions=conditions)])
    return result


def _matching(parent: Parameter, values: Sequence[Any]) -> list[int]:
    """Return the numbers of the steps whose values are in ``values``."""
    steps = value_count(parent.distribution) or 0
    return [number for number in range(steps) if decoded(parent.distribution, number) in values]


def encoded(distribution: BaseDistribution, value: Any) -> float:
    """Return a value in KerasTuner's terms: the number of its step, or its share."""
    steps = value_count(distribution)
    if steps is None:
        return min(max(cdf(distribution, value), 0.0), 1.0)
    if isinstance(distribution, CategoricalDistribution):
        return int(distribution.to_internal_repr(value))
    return min(int(cdf(distribution, value) * steps), steps - 1) if steps > 1 else 0


def decoded(distribution: BaseDistribution, number: float) -> Any:
    """Return the value of a step number or share; the inverse of ``encoded``."""
    steps = value_count(distribution)
    return ppf(distribution, (number + 0.5) / steps if steps else number)
