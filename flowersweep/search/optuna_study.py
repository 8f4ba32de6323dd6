"""What a journal says of each trial, and the Optuna study that is rebuilt from it."""

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
    """Return an Optuna study in memory that holds every trial that has ended, and those in flight that others ran beside.

    One that was in flight alone is asked for again: then the sampler and the pruner see what they saw.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Hyperband takes the bracket of a trial from this name and the trial's number: it must not change with what a user calls a study
    names = objective_names(config)
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
        # it makes its brackets when it is first asked, and samplers may see them: asked here, a study that goes on has them as soon as any
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
    several = len(names) > 1  # a study with one objective may have trials without metrics
    values = (
        None
        if value is None
        else objective_values(value, ended.metrics, names)
        if several
        else [value]
    )
    return optuna.trial.create_trial(
        state=STATES[trial.state],
        values=values,  # a pruned trial counts with its last report, as Optuna itself has it
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
    """Return the trials of a rebuilt study that are in flight, by our number: Optuna counts the imported ones first."""
    open_ = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    return {trial.number - imported: optuna.Trial(study, trial._trial_id) for trial in open_}


def optuna_attrs(study: optuna.Study, trial: optuna.Trial) -> dict[str, Any]:
    """Return what samplers and pruners noted on a trial (successive halving notes its rungs), to be rebuilt with it."""
    attributes = study.get_trials(deepcopy=False)[trial.number].system_attrs
    return {name: value for name, value in attributes.items() if name != "fixed_params"}


def hyperband_state(study: optuna.Study, trial: optuna.Trial) -> HyperbandState:
    """Return what an oracle with rounds noted on a trial when it suggested it; nothing of any other."""
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
    """Return trial ``number`` of the study with its parameters: a new suggestion, or those that are ``known`` and were ``noted`` of it."""
    study.sampler = make_sampler(config, number, space)
    if known is not None:
        waiting = {"fixed_params": known, **({HYPERBAND_ATTR: noted} if noted else {})}
        study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=waiting))
    trial = study.ask()
    _ = trial.relative_params  # the sampler is asked even so: what it notes on a trial (CMA-ES its generation) must be there again
    return trial, space.suggest(trial)
