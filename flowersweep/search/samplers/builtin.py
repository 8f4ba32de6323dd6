"""Samplers for one trial each: the default, a quasi-random sequence and a grid, which know a trial by its number, and two with extras."""

from __future__ import annotations

import importlib.util
from itertools import islice
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from flowersweep.errors import ConfigError
from flowersweep.space.designs import grid_points, initial_points, quasi_random
from flowersweep.space.space import Params, Space
from flowersweep.space.transforms import cdf, ppf


def warm_start_tpe(
    *,
    seed: int,
    number: int,
    space: Space,
    study_seed: int,
    n_startup_trials: int,
    recipe: str | None = None,
    **of_tpe: Any,
) -> BaseSampler:
    """Return the sampler of trial ``number``: first the points of `starts`, then quasi-random ones, then TPE.

    The first ``n_startup_trials`` depend on the numbers alone; more are random if fewer have ended without failing.
    """
    if number >= n_startup_trials:
        return TPESampler(seed=seed, n_startup_trials=n_startup_trials, **of_tpe)
    first = [*islice(initial_points(space, recipe), number + 1)]
    return _suggesting(
        first[number]
        if number < len(first)
        else quasi_random(space, number - len(first), study_seed),
        seed,
    )


def qmc(*, seed: int, number: int, space: Space, study_seed: int) -> BaseSampler:
    """Return a sampler that suggests point ``number`` of the study's quasi-random sequence."""
    return _suggesting(quasi_random(space, number, study_seed), seed)


def grid(
    *, seed: int, number: int, space: Space, study_seed: int, steps: int | None = None
) -> BaseSampler:
    """Return a sampler that suggests a point of the grid, in an order that the study's seed shuffles; no point comes twice.

    ``steps`` is the number of values of each continuous parameter. Raises ConfigError if it is wanted, or if the grid has ended.
    """
    points = grid_points(space, steps)
    if number >= len(points):
        raise ConfigError(
            f"sampler=grid: the grid has {len(points)} points, and no point comes twice: "
            f"sweep.n_trials={len(points)}"
        )
    return _suggesting(
        points[np.random.default_rng(study_seed).permutation(len(points))[number]], seed
    )


def gp(**of_gp: Any) -> BaseSampler:
    """Return a sampler with a Gaussian process. Raises ConfigError if torch is not installed."""
    _require("torch", "gp")
    return GPSampler(**of_gp)


class _CmaEs(RandomSampler):
    """Adapts to the given numbers; everything else is random.

    Its state is computed anew from the trials that ended: Optuna's own notes it on trials as a pickle, which has no place in a journal, and
    breaks where only some trials have a parameter.
    """

    def __init__(
        self, numbers: dict[str, BaseDistribution], seed: int, population: int | None
    ) -> None:
        super().__init__(seed=seed)
        self.numbers, self.seed, self.population = numbers, seed, population

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.numbers

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Params:
        from cmaes import CMA

        if not search_space:
            return {}
        bounds = np.array([[0.0, 1.0]] * len(search_space))
        made = CMA(
            mean=bounds.mean(axis=1),
            sigma=1 / 6,
            bounds=bounds,
            seed=self.seed % 2**31,
            population_size=self.population,
        )
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        shares = [
            np.array([cdf(each, trial.params[name]) for name, each in search_space.items()])
            for trial in ended
        ]
        seen = [
            (share, sign * float(trial.value))
            for share, trial in zip(shares, ended, strict=True)
            if trial.value is not None
        ]
        for end in range(made.population_size, len(seen) + 1, made.population_size):
            made.tell(seen[end - made.population_size : end])
        drawn = zip(search_space.items(), made.ask().tolist(), strict=True)
        return {name: ppf(each, share) for (name, each), share in drawn}


def cma_es(
    *, seed: int, space: Space, objectives: int, population: int | None = None
) -> BaseSampler:
    """Return a sampler with a covariance matrix adaptation (Hansen 2016); ``population`` is the number of trials a generation.

    Raises ConfigError without cmaes, with several objectives, or with nothing to adapt to.
    """
    _require("cmaes", "cma-es")
    if objectives > 1:
        raise ConfigError(
            "sampler=cma_es follows one objective, and sweep.objectives has several: "
            "sampler=default, or any other"
        )
    every = [
        p
        for p in space.parameters
        if set(p.when) <= set(space.fixed) and not p.distribution.single()
    ]
    numbers = {
        p.name: p.distribution
        for p in every
        if not isinstance(p.distribution, CategoricalDistribution)
    }
    if space.parameters and len(numbers) < 2:
        raise ConfigError(
            "sampler=cma_es needs two numbers or more that every trial has; this space has: "
            f"{', '.join(numbers) or 'none'}"
        )
    return _CmaEs(numbers, seed, population)


def _suggesting(params: Params, seed: int) -> BaseSampler:
    """A sampler that suggests these values; what is missing among them is random."""
    return PartialFixedSampler(params, RandomSampler(seed=seed))


def _require(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"this sampler needs {package}: pip install 'flowersweep[{extra}]'")
