"""What a new study takes over from others: the trials that have a point in its space, for its sampler to learn from.

An imported trial is none of the study's own: its files lie elsewhere, so it is never the best.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

from optuna.samplers import RandomSampler

from flowersweep.config.paths import Settings, flatten
from flowersweep.config.schema import Config
from flowersweep.config.targets import resolve
from flowersweep.errors import ConfigError, StudyError, did_you_mean
from flowersweep.search.deduplication import training_identity
from flowersweep.search.samplers.builtin import grid, qmc
from flowersweep.search.trial_store import studies_folder
from flowersweep.space.space import Parameter, Params, Space
from flowersweep.space.transforms import current_value, nearest_value
from flowersweep.study.journal import Event, read_events
from flowersweep.study.objectives import objective_names
from flowersweep.study.records import Record, fold_records
from flowersweep.tracking.artifacts import merged
from flowersweep.training.context import TrainingContext

log = logging.getLogger(__name__)

PLAIN_SAMPLERS = (grid, qmc, RandomSampler)  # their suggestions do not depend on earlier trials


def missing_imports(events: Sequence[Event], config: Config, space: Space, workshop: TrainingContext) -> list[dict[str, Any]]:
    """Return the content of the ``import`` events that a study's journal still lacks.

    A study imports until its first trial is asked for; after that its journal alone says what was
    imported.

    Raises:
        ConfigError: The study cannot learn from other trials.
        StudyError: A source is not there, or its trials cannot be compared with the study's.
    """
    names = list(dict.fromkeys(config.sweep.import_from))
    if not names or any(event["event"] == "ask" for event in events):
        return []
    _require_learning(config, space)
    written = {(event["study"], event["trial"]) for event in events if event["event"] == "import"}
    contents: list[dict[str, Any]] = []
    for name in names:
        source = _read_source(config, name, workshop)
        fitting = list(_fitting(source, name, config, space, workshop))
        total = sum(event["event"] == "ask" for event in source)
        log.warning(
            "imported %d of the %d trials of study %s; the other %d have not ended, failed, or have "
            "no point in this space that trains the same",
            len(fitting),
            total,
            name,
            total - len(fitting),
        )
        contents += [each for each in fitting if (name, each["trial"]) not in written]
    return contents


def _require_learning(config: Config, space: Space) -> None:
    if config.ensemble.members:
        raise ConfigError("sweep.import_from: an ensemble pools trials and trains none. Leave sweep.import_from out")
    if not space.parameters:
        raise ConfigError("sweep.import_from: one training has nothing to search. Leave sweep.import_from out")
    if config.engine != "optuna":
        raise ConfigError(
            f"sweep.import_from: an oracle of engine={config.engine} lays out its trials from its "
            "own first one. Use `engine=optuna`, or leave sweep.import_from out"
        )
    if resolve(config.sampler, config.trusted_modules) in PLAIN_SAMPLERS:
        raise ConfigError(
            f"sweep.import_from: sampler={config.sampler.get('name')} learns nothing from earlier "
            "trials. Use `sampler=default`, or leave sweep.import_from out"
        )


def _read_source(config: Config, name: str, workshop: TrainingContext) -> list[Event]:
    """Return the events of a study that trials are imported from, if they can be compared."""
    folder = studies_folder(config)
    events, _ = read_events(folder / name / "journal.jsonl")
    if not events or name == config.study:
        others = [path.parent.name for path in folder.glob("*/journal.jsonl")]
        others = [other for other in others if other != config.study]
        raise StudyError(f'sweep.import_from: no other study "{name}" in {folder}. ' + did_you_mean(name, others, "Studies"))
    settings = events[0]["settings"]
    digest, replicas = workshop.dataset(config.data).digest, workshop.runtime.replicas
    if settings["data.digest"] != digest:
        raise StudyError(
            f'sweep.import_from: study "{name}" trained on other images (digest '
            f"{settings['data.digest']}, here {digest}). Name its images with data=..., "
            "or leave it out of sweep.import_from"
        )
    if settings["replicas"] != replicas:
        raise StudyError(
            f'sweep.import_from: study "{name}" trained on {settings["replicas"]} devices, here '
            f"are {replicas}, which changes the batch. Leave it out of sweep.import_from"
        )
    metrics = [event["metrics"] for event in events if event.get("state") == "complete"]
    lacking = [name for name in objective_names(config) if any(name not in m for m in metrics)]
    if lacking:
        raise StudyError(
            f'sweep.import_from: the trials of study "{name}" have no {", ".join(lacking)}. '
            f"Leave it out of sweep.objectives, or {name} out of sweep.import_from"
        )
    return events


def _fitting(source: Sequence[Event], name: str, config: Config, space: Space, workshop: TrainingContext) -> Iterator[dict[str, Any]]:
    """Yield the trials of a source that ended and have a point in the space, by number.

    Their values are those of the first objective of ``config``.
    """
    objectives = objective_names(config)
    asks = {event["trial"]: event for event in source if event["event"] == "ask"}
    # Optuna's samplers cannot compare pruned trials by several objectives
    usable = ("complete", "pruned") if len(objectives) == 1 else ("complete",)
    for record in fold_records([_with_objective(event, objectives[0]) for event in source]):
        if record.state not in usable:
            continue
        settings = merged(source[0]["config"], asks[record.number]["settings"])
        point = _point(dict(flatten(settings)), space)
        if point is None or not space.feasible(point):
            continue
        if _identity(space, point, workshop) == record.identity:
            yield {
                "study": name,
                "trial": record.number,
                "state": record.state,
                "params": point,
                "value": _value(record, objectives[0]),
                "metrics": record.metrics,
                "reports": [[epoch, value] for epoch, value in record.reports.items()],
            }


def _with_objective(event: Event, objective: str) -> Event:
    """Return a report with its value of another objective than it may have been journaled with."""
    if event["event"] != "report":
        return event
    return {**event, "value": event["epochs"][-1]["metrics"][objective]}


def _value(record: Record, objective: str) -> float:
    """Return a pruned trial's last report, as Optuna counts it, and a complete one's metric."""
    if record.state == "pruned":
        return list(record.reports.values())[-1]
    return record.metrics[objective]


def _point(leaves: Settings, space: Space) -> Params | None:
    """Return the parameters with which a space has these settings; None if it cannot have them."""

    def value(parameter: Parameter) -> Any:
        setting = current_value(leaves, parameter)
        nearest = nearest_value(parameter.distribution, setting)
        close = isinstance(nearest, float) and math.isclose(nearest, setting)
        return setting if nearest == setting or close else None

    point = space.fill_active(value)
    chosen = {**space.fixed, **point}
    missing = any(p.name not in point and p.active(chosen) for p in space.parameters)
    return None if missing else point


def _identity(space: Space, point: Params, workshop: TrainingContext) -> str | None:
    try:
        return training_identity(space, point, workshop)
    except ConfigError:
        return None  # these options do not compose
