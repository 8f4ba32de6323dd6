"""KerasTuner's oracles as samplers: made anew for each trial, told the trials before it, and asked for one suggestion.

Nothing of an oracle is kept between two trials, so what it suggests follows from the study's seed, the trial's number and the history.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.override_parser.types import Override
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from flowersweep.config.schema import Config
from flowersweep.config.targets import arguments, resolve
from flowersweep.config.validation import never_prunes
from flowersweep.errors import ConfigError
from flowersweep.search.samplers.keras_tuner import hyperband
from flowersweep.search.samplers.keras_tuner.encoding import decoded, encoded, hyperparameters
from flowersweep.space.space import Params, Space

STATES = {
    TrialState.COMPLETE: "COMPLETED",
    TrialState.PRUNED: "COMPLETED",
    TrialState.FAIL: "FAILED",
    TrialState.RUNNING: "RUNNING",
}


class OracleSampler(RandomSampler):
    """Suggests what a KerasTuner oracle does; at random where the oracle has nothing more, because every point was tried."""

    def __init__(self, config: Config, space: Space, seed: int) -> None:
        super().__init__(seed=seed)
        self.config, self.space, self.seed = (
            config,
            space,
            seed % (2**31 - 1) + 1,
        )  # KerasTuner takes 0 for no seed

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {p.name: p.distribution for p in self.space.parameters}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Params:
        if hyperband.HYPERBAND_ATTR in trial.system_attrs or (
            "fixed_params" in trial.system_attrs and not is_hyperband(self.config)
        ):
            return {}  # its parameters are known, and so is what is noted on it
        before = [
            each
            for each in study.get_trials(deepcopy=False)
            if each.number < trial.number and each.state in STATES
        ]
        with _undisturbed():
            direction = "max" if study.direction == StudyDirection.MAXIMIZE else "min"
            oracle = make_oracle(self.config, self.space, self.seed, direction)
            _tell(oracle, before, self.space)
            values = oracle.populate_space(str(trial.number)).get("values") or {}
        if values and hasattr(oracle, "_brackets"):
            noted = hyperband.read_state(oracle, before, trial.number, values, self.config)
            study._storage.set_trial_system_attr(trial._trial_id, hyperband.HYPERBAND_ATTR, noted)
            if (parent := noted.get("continues")) is not None:
                return dict(next(each.params for each in before if each.number == parent))
        return {
            p.name: decoded(p.distribution, values[p.name])
            for p in self.space.parameters
            if p.name in values
        }


def require(config: Config, space: Space, given: Sequence[Override]) -> None:
    """Make sure that a sweep and its engine go together. Raises ConfigError saying what does not."""
    if not space.parameters:
        return
    named = {override.key_or_group.split(".")[0] for override in given}
    if config.engine != "keras_tuner":
        if "oracle" in named:
            raise ConfigError(
                "oracle= is for engine=keras_tuner, and engine=optuna takes a sampler=: add "
                "engine=keras_tuner"
            )
        return
    if "sampler" in named:
        raise ConfigError(
            "sampler= is for engine=optuna, and engine=keras_tuner takes an oracle: oracle=random, "
            "bayesian or hyperband"
        )
    if config.sweep.objectives:
        raise ConfigError(
            "engine=keras_tuner follows one objective, and sweep.objectives has several: "
            "engine=optuna"
        )
    oracle = make_oracle(config, space, 1)
    if hasattr(oracle, "_brackets"):
        _require_rounds(config, hyperband.first_bracket(oracle, config))


def _require_rounds(config: Config, bracket: Sequence[tuple[int, int]]) -> None:
    epochs, first = [epochs for _, epochs in bracket], sum(size for size, _ in bracket[:-1]) + 1
    if not never_prunes(config):
        raise ConfigError(
            f"oracle=hyperband ends trials itself, and pruner={config.pruner.get('name')} would "
            "too: pruner=none"
        )
    if config.sweep.on_duplicate != "new_seed":
        raise ConfigError(
            "oracle=hyperband compares trials of as many epochs, and sweep.on_duplicate=reuse "
            "takes results of fewer. "
            "Use `sweep.on_duplicate=new_seed`"
        )
    if config.ensemble.members:
        raise ConfigError(
            "oracle=hyperband needs epochs, and an ensemble trains none: oracle=random or bayesian"
        )
    if epochs[-1] < config.train.all_epochs:
        raise ConfigError(
            f"oracle.max_epochs={config.oracle['max_epochs']} is less than the "
            f"{config.train.all_epochs} epochs of a trial, so that none "
            "would be trained to its end: leave it out, or lower train.epochs"
        )
    if len({*epochs}) < len(epochs):
        raise ConfigError(
            "oracle=hyperband: its rounds end where a trial may be stopped, after "
            f"{', '.join(map(str, epochs))} epochs, so two are one: "
            f"lower sweep.report_interval_epochs={config.sweep.report_interval_epochs}, or raise "
            "train.epochs"
        )
    if config.sweep.n_trials < first:
        sizes = ", then ".join(f"{size} of {epochs} epochs" for size, epochs in bracket)
        raise ConfigError(
            f"oracle=hyperband begins with {sizes}: the first whole trial is the {first}th, and "
            f"sweep.n_trials={config.sweep.n_trials}. "
            f"Raise it, or lower train.epochs or oracle.factor={config.oracle['factor']}"
        )


def is_hyperband(config: Config) -> bool:
    """Say whether trials go on in rounds."""
    if config.engine != "keras_tuner":
        return False
    import keras_tuner

    made = resolve(config.oracle, "oracle", config.trusted_modules)
    return isinstance(made, type) and issubclass(made, keras_tuner.oracles.HyperbandOracle)


def make_oracle(config: Config, space: Space, seed: int, direction: str = "min") -> Any:
    """Return the oracle that ``oracle=`` names, which knows no trial yet. Raises ConfigError for one that cannot be told of trials."""
    import keras_tuner

    make = resolve(config.oracle, "oracle", config.trusted_modules)
    if (
        not isinstance(make, type)
        or not issubclass(make, keras_tuner.Oracle)
        or issubclass(make, keras_tuner.oracles.GridSearchOracle)
    ):
        raise ConfigError(
            f"oracle={config.oracle.get('name')}: {config.oracle['_target_']} cannot be told of "
            "trials. A grid is sampler=grid; "
            "an oracle of your own is a subclass of keras_tuner.Oracle with a populate_space"
        )
    given = arguments(config.oracle)
    if "max_epochs" in given and given["max_epochs"] is None:
        given["max_epochs"] = config.train.all_epochs
    return make(
        **given,
        objective=keras_tuner.Objective("value", direction),
        hyperparameters=hyperparameters(space),
        seed=seed,
    )


def _tell(oracle: Any, before: Sequence[FrozenTrial], space: Space) -> None:
    """Give an oracle the trials before: those that ended with their values, those that run as running."""
    from keras_tuner.engine.trial import Trial

    distributions = {p.name: p.distribution for p in space.parameters}
    for each in sorted(before, key=lambda trial: trial.state == TrialState.RUNNING):
        known = copy.copy(
            oracle.hyperparameters
        )  # its parameters are shared by all, its values are its own
        known.values = {
            name: encoded(distributions[name], value) for name, value in each.params.items()
        }
        told = Trial(known, str(each.number), STATES[each.state])
        told.score = each.value
        if told.status == "RUNNING":
            known_values = any(each.status == "COMPLETED" for each in oracle.trials.values())
            if not oracle.ongoing_trials and hasattr(oracle, "gpr") and known_values:
                oracle.gpr.fit(
                    *oracle._vectorize_trials()
                )  # by which it guesses what those that run will give
            oracle.ongoing_trials[told.trial_id] = told
        oracle.trials[told.trial_id] = told
        oracle._tried_so_far.add(oracle._compute_values_hash(known.values))
    if hasattr(oracle, "_brackets"):
        hyperband.restore(oracle, before)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """One thread, on which a small Gaussian process is faster and always the same; no warning that a fit was not perfect."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
