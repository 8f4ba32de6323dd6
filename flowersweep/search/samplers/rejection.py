"""Rejection sampling: redraw the suggestions of another sampler until one is feasible."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from flowersweep.space.designs import quasi_random_sequence
from flowersweep.space.space import Parameter, Params, Space
from flowersweep.space.transforms import cdf, ppf

TRIES = 10  # a model with an infeasible optimum would suggest it again
RANDOM_TRIES = 10_000  # random search must stay uniform over the feasible points
CANDIDATES, HALVINGS = 64, 12


class RejectionSampler(BaseSampler):
    """Suggests the first feasible point of the samplers ``make(0)``, ``make(1)``, and so on.

    If there is none, the sampler moves the last point just far enough towards a near feasible
    point. The suggestion depends only on the seed and on ``make``.
    """

    def __init__(self, make: Callable[[int], BaseSampler], space: Space, seed: int) -> None:
        self.make, self.space, self.seed = make, space, seed
        self.first = make(0)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {p.name: p.distribution for p in self.space.parameters}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Params:
        point: Params = {}
        for number in range(RANDOM_TRIES if type(self.first) is RandomSampler else TRIES):
            point = self._point(self.make(number) if number else self.first, study, trial)
            if self.space.feasible(point):
                return point
        return project_to_feasible(point, self.space, self.seed)

    def _point(self, sampler: BaseSampler, study: Study, trial: FrozenTrial) -> Params:
        relative = sampler.sample_relative(
            study, trial, sampler.infer_relative_search_space(study, trial)
        )

        def value(parameter: Parameter) -> Any:
            name, distribution = parameter.name, parameter.distribution
            if distribution.single():
                return ppf(distribution, 0.5)
            return (
                relative[name]
                if name in relative
                else sampler.sample_independent(study, trial, name, distribution)
            )

        return self.space.fill_active(value)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self.first.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.first.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        self.first.after_trial(study, trial, state, values)


def project_to_feasible(infeasible: Params, space: Space, seed: int) -> Params:
    """Return a feasible point near an infeasible one, by bisection."""
    points = islice(filter(space.feasible, quasi_random_sequence(space, seed)), CANDIDATES)
    nearest = min(
        points, key=lambda point: sum(_distance(p, point, infeasible) for p in space.parameters)
    )
    low, high, best = 0.0, 1.0, nearest
    for _ in range(HALVINGS):
        share = (low + high) / 2
        point = space.fill_active(
            lambda p, share=share: _between(p, nearest, infeasible, share)  # type: ignore[misc]
        )
        if space.feasible(point):
            low, best = share, point
        else:
            high = share
    return best


def _distance(parameter: Parameter, one: Params, other: Params) -> float:
    name, distribution = parameter.name, parameter.distribution
    if not _movable(parameter, one, other):
        return float(one.get(name) != other.get(name))
    return (cdf(distribution, one[name]) - cdf(distribution, other[name])) ** 2


def _between(parameter: Parameter, one: Params, other: Params, share: float) -> Any:
    name, distribution = parameter.name, parameter.distribution
    if not _movable(parameter, one, other):
        return one.get(name, ppf(distribution, 0.5))
    low, high = (cdf(distribution, point[name]) for point in (one, other))
    return ppf(distribution, low + share * (high - low))


def _movable(parameter: Parameter, one: Params, other: Params) -> bool:
    choice = (
        isinstance(parameter.distribution, CategoricalDistribution)
        or parameter.distribution.single()
    )
    return not choice and parameter.name in one and parameter.name in other
