"""Import trials of other studies for the sampler: ``sweep.import_from=[STUDY]``.

A trial fits if the new space has a point that trains the same. The sampler sees it as an ended
trial. It does not belong to the new study, so it can be neither the best trial nor promoted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowersweep.config.paths import Settings, flatten, merged
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError, StudyError, did_you_mean
from flowersweep.execution.protocol import Trainer
from flowersweep.search.duplicates import training_identity
from flowersweep.space.designs import PLAIN_SAMPLERS
from flowersweep.space.space import Parameter, Params, Space
from flowersweep.space.transforms import current_value, is_inside
from flowersweep.study.events import EpochsReported, Event, ImportedTrial
from flowersweep.study.journal import read_events
from flowersweep.study.objectives import objective_names
from flowersweep.study.records import StudyRecord, TrialRecord

log = logging.getLogger(__name__)

# metrics on other images or devices are not comparable
SAME = ("data.digest", "data.split_seed", "data.folds", "replicas")


def import_trials(
    config: Config, space: Space, trainer: Trainer, settings: Settings
) -> list[ImportedTrial]:
    """Return the trials of ``sweep.import_from`` that fit into the space of a new study.

    Raises:
        StudyError: A study does not exist, or saw other images or devices.
        ConfigError: The sampler cannot learn from trials that it did not suggest.
    """
    if not config.sweep.import_from:
        return []
    _require_learning(config, space)
    trials: list[ImportedTrial] = []
    for name in dict.fromkeys(config.sweep.import_from):
        source = _source(Path(config.dir) / "studies", name, settings, objective_names(config))
        ended = [trial for trial in source.trials if trial.state in ("complete", "pruned")]
        imported = [
            entry for trial in ended if (entry := _import(trial, source, config, space, trainer))
        ]
        log.warning(
            "imported %d of the %d ended trials of study %s; the other %d have no point in this "
            "space that trains the same",
            len(imported),
            len(ended),
            name,
            len(ended) - len(imported),
        )
        trials += imported
    return trials


def _require_learning(config: Config, space: Space) -> None:
    if config.ensemble.members:
        raise ConfigError(
            "sweep.import_from: an ensemble pools trials and trains none. Leave sweep.import_from "
            "out"
        )
    if not space.parameters:
        raise ConfigError(
            "sweep.import_from: one training has nothing to search. Leave sweep.import_from out"
        )
    if config.engine != "optuna":
        raise ConfigError(
            "sweep.import_from: an oracle lays out its own trials. Use `engine=optuna`, or leave "
            "sweep.import_from out"
        )
    if config.sampler["_target_"] in PLAIN_SAMPLERS:
        name = config.sampler.get("name")
        raise ConfigError(
            f"sweep.import_from: sampler={name} learns nothing from earlier trials. Use "
            "`sampler=default`"
        )


def _source(studies: Path, name: str, settings: Settings, objectives: Sequence[str]) -> StudyRecord:
    """Return a study to import from, with its reports of the first objective."""
    source = StudyRecord(
        _with_objective(event, objectives[0])
        for event in read_events(studies / name / "journal.jsonl")[0]
    )
    if not source:
        names = [path.parent.name for path in studies.glob("*/journal.jsonl")]
        raise StudyError(
            f'sweep.import_from: no study "{name}" in {studies}. '
            + did_you_mean(name, names, "Studies")
        )
    old = {"data.folds": 1, **source.started.settings}  # a study from before there were folds
    if other := [
        f"{path}: {old.get(path)!r} there, {settings.get(path)!r} here"
        for path in SAME
        if old.get(path) != settings.get(path)
    ]:
        raise StudyError(
            f"sweep.import_from={name}: its trials saw other images or devices "
            f"({'; '.join(other)}). Leave it out"
        )
    complete = [trial for trial in source.trials if trial.state == "complete"]
    if lacking := [
        objective
        for objective in objectives
        if any(objective not in trial.metrics for trial in complete)
    ]:
        raise StudyError(
            f"sweep.import_from={name}: its trials have no {', '.join(lacking)}. Use other "
            "sweep.objectives, or leave it out"
        )
    return source


def _with_objective(event: Event, objective: str) -> Event:
    """Return a report with its value of ``objective``; the journal may follow another one."""
    return (
        replace(event, value=event.epochs[-1].metrics[objective])
        if isinstance(event, EpochsReported)
        else event
    )


def _import(
    trial: TrialRecord, source: StudyRecord, config: Config, space: Space, trainer: Trainer
) -> ImportedTrial | None:
    """Return a trial as the new study sees it; None if it does not fit."""
    leaves = dict(flatten(merged(source.started.config, trial.settings)))
    point = _point(leaves, space)
    names = objective_names(config)
    if (
        point is None
        or not space.feasible(point)
        or _identity(space, point, trainer) != trial.identity
    ):
        return None
    if trial.state == "pruned" and len(names) > 1:
        return None  # Optuna cannot compare pruned trials by several objectives
    reports = (
        {str(epoch): value for epoch, value in trial.reports.items()} if len(names) == 1 else {}
    )
    value = [*trial.reports.values()][-1] if trial.state == "pruned" else trial.metrics[names[0]]
    return ImportedTrial(
        f"{source.started.study}:{trial.number}", point, trial.state, value, trial.metrics, reports
    )


def _point(leaves: Mapping[str, Any], space: Space) -> Params | None:
    """Return the point that has these settings; None if one lies outside the space."""

    def value(parameter: Parameter) -> Any:
        setting = current_value(dict(leaves), parameter)
        return setting if is_inside(parameter.distribution, setting) else None

    point = space.fill_active(value)
    missing = any(
        p.name not in point and p.active({**space.fixed, **point}) for p in space.parameters
    )
    return None if missing else point


def _identity(space: Space, point: Params, trainer: Trainer) -> str | None:
    try:
        return training_identity(space, point, trainer)
    except ConfigError:
        return None  # the configuration does not compose
