"""Other settings for a study that has begun: which trials are still what it means, and what is written down of it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from flowersweep.config.paths import Settings, differences, flatten
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError, StudyError
from flowersweep.search.deduplication import PARTS, training_identity
from flowersweep.search.samplers.keras_tuner.oracle import is_hyperband
from flowersweep.space.space import Parameter, Params, Space
from flowersweep.space.transforms import current_value, nearest_value
from flowersweep.study.journal import Event, Journal
from flowersweep.study.objectives import objective_names
from flowersweep.study.records import Record, fold_records
from flowersweep.tracking.artifacts import merged
from flowersweep.training.context import TrainingContext

COUNT = {*PARTS} - {"data"}  # which lie where they lie by now
FREE = {"train.checkpoint_seconds"}
log = logging.getLogger(__name__)

LASTING = ("data", "replicas", "ensemble")  # trials of other images have no values that could be compared
DECIDING = ("pruner", "sweep.objective", "sweep.segment_epochs")  # what a pruner has noted means nothing beside another of these


def lasting(changed: Sequence[str]) -> list[str]:
    """Return the changes (``path: old -> new``) that a study cannot go on with."""
    return [change for change in changed if change.split(": ")[0].split(".")[0] in LASTING]


def accept(
    journal: Journal, config: Config, space: Space, workshop: TrainingContext, changed: Sequence[str], meaning: dict[str, Any]
) -> None:
    """Write down that a study goes on with what has changed, and which of its trials are outside of what it means now.

    A trial is inside if the space has a point that trains the same. Those in flight go on if they are inside and the pruner is what it was.
    Raises StudyError if there is no way to go on.
    """
    begun, trials = journal.events[0], fold_records(journal.events)
    _require_possible(config, trials, changed)
    anew = any(change.startswith(DECIDING) for change in changed)
    asked = {event["trial"]: event for event in journal.events if event["event"] == "ask"}
    outside: list[int] = []
    params: list[Params] = []
    for record in trials:
        own = asked[record.number]
        point = _point(dict(flatten(merged(begun["config"], own["settings"]))), space)
        same = point is not None and space.feasible(point) and _trained(space, point, workshop) == record.identity
        params.append(point if same and point is not None else own["params"])
        if not same or (anew and record.tell is None):
            outside.append(record.number)
    whole = json.loads(json.dumps(asdict(config)))
    # the settings of a trial are told by how they differ from the study's first ones: these stay what they were
    kept = {**whole, **{part: begun["config"].get(part) for part in PARTS}}
    journal.append("accept", changes=list(changed), anew=anew, outside=outside, params=params, config=kept, **meaning)
    log.warning(
        "the study goes on with %s; %d of its %d trials are outside of what it means now, and count no more",
        "; ".join(changed),
        len(outside),
        len(trials),
    )


def _require_possible(config: Config, trials: Sequence[Record], changed: Sequence[str]) -> None:
    if stay := lasting(changed):
        raise StudyError(f"sweep.accept: a study's images, members and devices stay what they are ({'; '.join(stay)}): study=NAME")
    if is_hyperband(config) or any(record.hyperband_state for record in trials):
        raise StudyError("sweep.accept: oracle=hyperband lays out its rounds from the first trial on: study=NAME")
    if config.sampler.get("_target_") == "grid":
        raise StudyError("sweep.accept: sampler=grid counts its points from the first trial on: another sampler=, or study=NAME")
    complete = [record for record in trials if record.tell and record.tell["state"] == "complete"]
    if missing := [name for name in objective_names(config) if any(name not in record.metrics for record in complete)]:
        raise StudyError(f"sweep.accept: the study's trials were told without {', '.join(missing)}: study=NAME")


def _point(leaves: Settings, space: Space) -> Params | None:
    """Return the parameters with which a space has these settings; None if a parameter cannot have its value."""

    def value(parameter: Parameter) -> Any:
        there = current_value(leaves, parameter)
        found = nearest_value(parameter.distribution, there)
        return there if found == there or (isinstance(found, float) and math.isclose(found, there)) else None

    point = space.fill_active(value)
    missing = any(each.name not in point and each.active({**space.fixed, **point}) for each in space.parameters)
    return None if missing else point


def _trained(space: Space, point: Params, workshop: TrainingContext) -> str | None:
    try:
        return training_identity(space, point, workshop)
    except ConfigError:
        return None  # what it would be does not compose


def settings(begun: Event, space: Space, params: Params) -> Settings:
    """Return how the configuration of a trial differs from the one that its study began with, where other settings were accepted since."""
    first = dict(flatten(begun["config"]))
    now = json.loads(json.dumps(dict(flatten(space.config(params)))))
    apart = {path: value for path, (_, value) in differences(first, now).items() if path.split(".")[0] in COUNT and path not in FREE}
    return {**apart, **{path: value for path, value in space.settings(params).items() if path.startswith("data.")}}
