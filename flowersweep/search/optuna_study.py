"""Rebuild the Optuna study of a journal, and ask it for trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from flowersweep.config.schema import Config
from flowersweep.search.samplers.factory import make_pruner, make_sampler
from flowersweep.search.samplers.keras_tuner.hyperband import HYPERBAND_ATTR
from flowersweep.search.source import TrialSource
from flowersweep.space.space import Params
from flowersweep.study.events import ImportedTrial, TrialEnded
from flowersweep.study.objectives import direction, objective_names, objective_values
from flowersweep.study.records import HyperbandState, TrialRecord

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def rebuild_study(
    trials: Sequence[TrialRecord],
    space: TrialSource,
    config: Config,
    imported: Sequence[ImportedTrial] = (),
) -> optuna.Study:
    """Return an Optuna study in memory with the ended trials and the concurrent ones in flight.

    A trial that was in flight alone is left out and asked for again, so that the sampler and the
    pruner see the same history as before.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names = objective_names(config)
    # Hyperband hashes the study's name and the trial's number into a bracket, so the name must
    # not depend on what a user calls the study
    study = optuna.create_study(
        study_name=str(config.seed), directions=[*map(direction, names)], pruner=make_pruner(config)
    )
    study.add_trials([_imported(trial, space, names) for trial in imported])
    study.add_trials(
        [
            _frozen(t, t.ended, space, names) if t.ended else _open(t, space)
            for t in trials
            if t.ended or t.optuna_attrs is not None or t is not trials[-1]
        ]
    )
    if isinstance(study.pruner, optuna.pruners.HyperbandPruner):
        # The pruner creates its brackets at the first call, and samplers may see them. This call
        # gives a resumed study its brackets before the first suggestion.
        study.pruner.prune(study, optuna.trial.create_trial(value=0.0))
    return study


def _imported(trial: ImportedTrial, space: TrialSource, names: Sequence[str]) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=STATES[trial.state],
        values=objective_values(trial.value, trial.metrics, names),
        params=trial.params,
        distributions=space.distributions(trial.params),
        intermediate_values={int(epoch): value for epoch, value in trial.reports.items()},
        user_attrs={"source": trial.source},
    )


def _frozen(
    trial: TrialRecord, ended: TrialEnded, space: TrialSource, names: Sequence[str]
) -> FrozenTrial:
    value = ended.value
    return optuna.trial.create_trial(
        state=STATES[trial.state],
        # a pruned trial has its last report as value, as in Optuna
        values=None if value is None else objective_values(value, ended.metrics, names),
        params=trial.params,
        distributions=space.distributions(trial.params),
        intermediate_values=trial.reports,
        system_attrs=ended.attributes,
    )


def _open(trial: TrialRecord, space: TrialSource) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=space.distributions(trial.params),
        intermediate_values={} if trial.optuna_attrs is None else trial.reports,
        system_attrs=trial.optuna_attrs
        or ({HYPERBAND_ATTR: trial.hyperband_state} if trial.hyperband_state else {}),
    )


def running_trials(study: optuna.Study, imported: int) -> dict[int, optuna.Trial]:
    """Return the trials in flight of a rebuilt study, by our number.

    Optuna counts the imported trials first, so its numbers are higher by ``imported``.
    """
    trials = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    return {trial.number - imported: optuna.Trial(study, trial._trial_id) for trial in trials}


def optuna_attrs(study: optuna.Study, trial: optuna.Trial) -> dict[str, Any]:
    """Return the system attributes of a trial, such as the rungs of successive halving."""
    attributes = study.get_trials(deepcopy=False)[trial.number].system_attrs
    return {name: value for name, value in attributes.items() if name != "fixed_params"}


def hyperband_state(study: optuna.Study, trial: optuna.Trial) -> HyperbandState:
    """Return the Hyperband state that an oracle noted on a trial; empty for other oracles."""
    state: HyperbandState = study.get_trials(deepcopy=False)[trial.number].system_attrs.get(
        HYPERBAND_ATTR, {}
    )
    return state


def ask_trial(
    study: optuna.Study,
    number: int,
    *,
    space: TrialSource,
    config: Config,
    known: Params | None = None,
    noted: HyperbandState | None = None,
) -> tuple[optuna.Trial, Params]:
    """Return trial ``number`` and its parameters.

    Args:
        known: The parameters of an earlier suggestion; None asks for a new one.
        noted: The Hyperband state of that suggestion.
    """
    study.sampler = make_sampler(config, number, space)
    if known is not None:
        waiting = {"fixed_params": known, **({HYPERBAND_ATTR: noted} if noted else {})}
        study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=waiting))
    trial = study.ask()
    # also with known parameters, the sampler must note its attributes (such as CMA-ES generations)
    _ = trial.relative_params
    return trial, space.suggest(trial)
