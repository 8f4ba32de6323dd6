"""Samplers for one trial each: default, quasi-random, grid, Gaussian process, CMA-ES.

The last two need optional packages.
"""

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
    **tpe_options: Any,
) -> BaseSampler:
    """Return the sampler of trial ``number``: initial points, then quasi-random points, then TPE.

    The first ``n_startup_trials`` depend only on their numbers. TPE suggests at random until as
    many trials have ended without failing.
    """
    if number >= n_startup_trials:
        return TPESampler(seed=seed, n_startup_trials=n_startup_trials, **tpe_options)
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
    """Return a sampler that suggests each point of the grid once, shuffled by the study's seed.

    Args:
        steps: The number of values of each continuous parameter.

    Raises:
        ConfigError: ``steps`` is missing, or the grid is exhausted.
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


def gp(**gp_options: Any) -> BaseSampler:
    """Return a sampler with a Gaussian process. Raises ConfigError if torch is not installed."""
    _require("torch", "gp")
    return GPSampler(**gp_options)


class _CmaEs(RandomSampler):
    """Suggests ``numbers`` by CMA-ES and everything else at random.

    Each call recomputes the state from the ended trials. Optuna's own sampler stores a pickle on
    the trials, which does not belong in a journal, and fails if some trials lack a parameter.
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
        optimizer = CMA(
            mean=bounds.mean(axis=1),
            sigma=1 / 6,
            bounds=bounds,
            seed=self.seed % 2**31,
            population_size=self.population,
        )
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        shares = [
            np.array([cdf(values, trial.params[name]) for name, values in search_space.items()])
            for trial in ended
        ]
        results = [
            (share, sign * float(trial.value))
            for share, trial in zip(shares, ended, strict=True)
            if trial.value is not None
        ]
        for end in range(optimizer.population_size, len(results) + 1, optimizer.population_size):
            optimizer.tell(results[end - optimizer.population_size : end])
        suggestion = zip(search_space.items(), optimizer.ask().tolist(), strict=True)
        return {name: ppf(values, share) for (name, values), share in suggestion}


def cma_es(
    *, seed: int, space: Space, objectives: int, population: int | None = None
) -> BaseSampler:
    """Return a CMA-ES sampler (Hansen 2016).

    Args:
        population: Trials per generation.

    Raises:
        ConfigError: cmaes is not installed, there are several objectives, or the space has fewer
            than two numbers that every trial has.
    """
    _require("cmaes", "cma-es")
    if objectives > 1:
        raise ConfigError(
            "sampler=cma_es follows one objective, and sweep.objectives has several: "
            "sampler=default, or any other"
        )
    unconditional = [
        p
        for p in space.parameters
        if set(p.when) <= set(space.fixed) and not p.distribution.single()
    ]
    numbers = {
        p.name: p.distribution
        for p in unconditional
        if not isinstance(p.distribution, CategoricalDistribution)
    }
    if space.parameters and len(numbers) < 2:
        raise ConfigError(
            "sampler=cma_es needs two numbers or more that every trial has; this space has: "
            f"{', '.join(numbers) or 'none'}"
        )
    return _CmaEs(numbers, seed, population)


def _suggesting(params: Params, seed: int) -> BaseSampler:
    """Return a sampler that suggests these values, and any missing value at random."""
    return PartialFixedSampler(params, RandomSampler(seed=seed))


def _require(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"this sampler needs {package}: pip install 'flowersweep[{extra}]'")
