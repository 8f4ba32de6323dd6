"""Build the sampler of each trial, and the pruner of a study."""

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
    """Return the pruner. An unset ``max_resource`` becomes the epochs of a trial."""
    if is_hyperband(config):
        return HyperbandRoundPruner()
    options = arguments(config.pruner)
    if "max_resource" in options and options["max_resource"] is None:
        options["max_resource"] = config.train.all_epochs
    build = resolve(config.pruner, "pruner", config.trusted_modules)
    try:
        pruner: optuna.pruners.BasePruner = build(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"pruner={config.pruner['name']}: {error}") from None
    if config.sweep.objectives and not isinstance(pruner, optuna.pruners.NopPruner):
        raise ConfigError(
            f"pruner={config.pruner['name']} stops a trial by one objective, and sweep.objectives "
            "has several: pruner=none"
        )
    return pruner


def make_sampler(config: Config, number: int, space: TrialSource) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial.

    Its suggestion depends only on the study's seed, the number and the history. The callable of
    ``sampler=`` receives the trial's ``seed`` and, if it takes them, ``number``, ``space``,
    ``study_seed`` and ``objectives`` (their count). If the space has constraints, each further
    attempt uses another seed until the suggestion meets them.
    """

    def build(attempt: int) -> optuna.samplers.BaseSampler:
        return _build_sampler(config, number, space, _seed(config, number, attempt))

    if isinstance(space, Space) and space.constraints:
        return RejectionSampler(build, space, _seed(config, number))
    return build(0)


def _seed(config: Config, number: int, attempt: int = 0) -> int:
    name = f"{config.seed}/{number}" + f"/{attempt}" * (attempt > 0)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _build_sampler(
    config: Config, number: int, space: TrialSource, seed: int
) -> optuna.samplers.BaseSampler:
    if config.engine == "keras_tuner" and isinstance(space, Space):
        return OracleSampler(config, space, seed)
    build = resolve(config.sampler, "sampler", config.trusted_modules)
    facts = {
        "number": number,
        "space": space,
        "study_seed": config.seed,
        "objectives": len(objective_names(config)),
    }
    names = inspect.signature(build).parameters
    facts = {name: fact for name, fact in facts.items() if name in names}
    with warnings.catch_warnings():
        # TPE's groups of conditional parameters are experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            sampler: optuna.samplers.BaseSampler = build(
                **arguments(config.sampler), seed=seed, **facts
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(f"sampler={config.sampler['name']}: {error}") from None
    return sampler
