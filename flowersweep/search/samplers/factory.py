"""Makes the sampler of each trial, and the pruner of a study."""

from __future__ import annotations

import hashlib
import inspect
import warnings

import optuna

from flowersweep.config.schema import Config
from flowersweep.config.targets import arguments, resolve
from flowersweep.errors import ConfigError
from flowersweep.search.samplers.keras_tuner.hyperband import HyperbandRoundPruner
from flowersweep.search.samplers.keras_tuner.oracle import OracleSampler, is_hyperband
from flowersweep.search.samplers.rejection import RejectionSampler
from flowersweep.search.source import TrialSource
from flowersweep.space.space import Space
from flowersweep.study.objectives import objective_names


def make_pruner(config: Config) -> optuna.pruners.BasePruner:
    """Return the pruner; one that asks for ``max_resource`` and is given none gets the epochs of a trial."""
    if is_hyperband(config):
        return HyperbandRoundPruner()
    given = arguments(config.pruner)
    if "max_resource" in given and given["max_resource"] is None:
        given["max_resource"] = config.train.all_epochs
    made: optuna.pruners.BasePruner = resolve(config.pruner, "pruner", config.trusted_modules)(
        **given
    )
    if config.sweep.objectives and not isinstance(made, optuna.pruners.NopPruner):
        raise ConfigError(
            f"pruner={config.pruner['name']} stops a trial by one objective, and sweep.objectives "
            "has several: pruner=none"
        )
    return made


def make_sampler(config: Config, number: int, space: TrialSource) -> optuna.samplers.BaseSampler:
    """Return a sampler of its own for one trial: what it suggests depends on the study's seed, the number and the history alone.

    Its maker is given a ``seed`` of the trial and, if it takes them, the trial's ``number``, the ``space``, the ``study_seed`` and how many
    ``objectives`` there are. Where the space has constraints, it is made anew, with another seed, until it suggests what meets them.
    """

    def made(attempt: int) -> optuna.samplers.BaseSampler:
        return _build_sampler(config, number, space, _seed(config, number, attempt))

    if isinstance(space, Space) and space.constraints:
        return RejectionSampler(made, space, _seed(config, number))
    return made(0)


def _seed(config: Config, number: int, attempt: int = 0) -> int:
    name = f"{config.seed}/{number}" + f"/{attempt}" * (attempt > 0)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _build_sampler(
    config: Config, number: int, space: TrialSource, seed: int
) -> optuna.samplers.BaseSampler:
    if config.engine == "keras_tuner" and isinstance(space, Space):
        return OracleSampler(config, space, seed)
    make = resolve(config.sampler, "sampler", config.trusted_modules)
    facts = {
        "number": number,
        "space": space,
        "study_seed": config.seed,
        "objectives": len(objective_names(config)),
    }
    wanted = {
        name: fact for name, fact in facts.items() if name in inspect.signature(make).parameters
    }
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", optuna.exceptions.ExperimentalWarning
        )  # groups of conditional parameters
        made: optuna.samplers.BaseSampler = make(**arguments(config.sampler), seed=seed, **wanted)
    return made
