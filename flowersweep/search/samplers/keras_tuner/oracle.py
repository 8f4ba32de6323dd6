"""KerasTuner's oracles as Optuna samplers.

Each trial gets a new oracle, which learns the earlier trials and suggests one point. So the
suggestion depends only on the study's seed, the trial's number and the history.
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
    """Suggests what a KerasTuner oracle does, or at random if the oracle has run out of points."""

    def __init__(self, config: Config, space: Space, seed: int) -> None:
        super().__init__(seed=seed)
        self.config, self.space = config, space
        self.seed = seed % (2**31 - 1) + 1  # KerasTuner treats 0 as no seed

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
            return {}  # an earlier suggestion, restored with its state
        before = [
            other
            for other in study.get_trials(deepcopy=False)
            if other.number < trial.number and other.state in STATES
        ]
        with _undisturbed():
            direction = "max" if study.direction == StudyDirection.MAXIMIZE else "min"
            oracle = make_oracle(self.config, self.space, self.seed, direction)
            _tell(oracle, before, self.space)
            values = oracle.populate_space(str(trial.number)).get("values") or {}
        if values and hasattr(oracle, "_brackets"):
            state = hyperband.read_state(oracle, before, trial.number, values, self.config)
            study._storage.set_trial_system_attr(trial._trial_id, hyperband.HYPERBAND_ATTR, state)
            if (parent := state.get("continues")) is not None:
                return dict(next(other.params for other in before if other.number == parent))
        return {
            p.name: decoded(p.distribution, values[p.name])
            for p in self.space.parameters
            if p.name in values
        }


def require(config: Config, space: Space, given: Sequence[Override]) -> None:
    """Raise ConfigError if a sweep and its engine do not fit together."""
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
    """Return whether the oracle continues trials in rounds."""
    if config.engine != "keras_tuner":
        return False
    import keras_tuner

    oracle = resolve(config.oracle, "oracle", config.trusted_modules)
    return isinstance(oracle, type) and issubclass(oracle, keras_tuner.oracles.HyperbandOracle)


def make_oracle(config: Config, space: Space, seed: int, direction: str = "min") -> Any:
    """Return a new oracle of the kind that ``oracle=`` names.

    Raises:
        ConfigError: The oracle cannot learn from trials that it did not suggest.
    """
    import keras_tuner

    kind = resolve(config.oracle, "oracle", config.trusted_modules)
    if (
        not isinstance(kind, type)
        or not issubclass(kind, keras_tuner.Oracle)
        or issubclass(kind, keras_tuner.oracles.GridSearchOracle)
    ):
        raise ConfigError(
            f"oracle={config.oracle.get('name')}: {config.oracle['_target_']} cannot be given "
            "trials. A grid is sampler=grid; "
            "an oracle of your own is a subclass of keras_tuner.Oracle with a populate_space"
        )
    options = arguments(config.oracle)
    if "max_epochs" in options and options["max_epochs"] is None:
        options["max_epochs"] = config.train.all_epochs
    return kind(
        **options,
        objective=keras_tuner.Objective("value", direction),
        hyperparameters=hyperparameters(space),
        seed=seed,
    )


def _tell(oracle: Any, before: Sequence[FrozenTrial], space: Space) -> None:
    """Give an oracle the earlier trials: the ended ones first, then the running ones."""
    from keras_tuner.engine.trial import Trial

    distributions = {p.name: p.distribution for p in space.parameters}
    for frozen in sorted(before, key=lambda trial: trial.state == TrialState.RUNNING):
        point = copy.copy(oracle.hyperparameters)  # shallow: only the values differ between trials
        point.values = {
            name: encoded(distributions[name], value) for name, value in frozen.params.items()
        }
        trial = Trial(point, str(frozen.number), STATES[frozen.state])
        trial.score = frozen.value
        if trial.status == "RUNNING":
            has_scores = any(other.status == "COMPLETED" for other in oracle.trials.values())
            if not oracle.ongoing_trials and hasattr(oracle, "gpr") and has_scores:
                # the oracle predicts the scores of running trials with this fit
                oracle.gpr.fit(*oracle._vectorize_trials())
            oracle.ongoing_trials[trial.trial_id] = trial
        oracle.trials[trial.trial_id] = trial
        oracle._tried_so_far.add(oracle._compute_values_hash(point.values))
    if hasattr(oracle, "_brackets"):
        hyperband.restore(oracle, before)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Use one thread, which makes a small Gaussian process fast and reproducible; hide warnings."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
