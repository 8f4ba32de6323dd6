"""Trials of other studies that a new study learns from: ``sweep.import_from=STUDY``.

A trial fits if the new space has a point that trains the same. The sampler sees it as a trial that
has ended; it is none of the study's own trials, so it can neither be its best nor be promoted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowersweep.config.paths import Settings, flatten, merged
from flowersweep.config.schema import Config, Experiment
from flowersweep.errors import ConfigError, StudyError, did_you_mean
from flowersweep.search.deduplication import training_identity
from flowersweep.search.samplers.keras_tuner.oracle import is_hyperband
from flowersweep.space.space import Parameter, Params, Space
from flowersweep.space.transforms import current_value, nearest_value
from flowersweep.study.events import ImportedTrial
from flowersweep.study.objectives import objective_names
from flowersweep.study.records import StudyRecord, TrialRecord, read_study
from flowersweep.training.context import TrainingContext

log = logging.getLogger(__name__)

SAME = ("data.digest", "data.split_seed", "replicas")  # values of trials on other images compare to nothing


def import_trials(config: Config, space: Space, workshop: TrainingContext, settings: Settings) -> list[ImportedTrial]:
    """Return the trials of ``sweep.import_from`` that have a point in the space of a new study.

    Raises:
        StudyError: A study is not there, or saw other images.
        ConfigError: The sampler cannot learn from trials that it did not suggest.
    """
    if not config.sweep.import_from:
        return []
    if config.engine != "optuna" or is_hyperband(config) or config.sampler.get("name") == "grid":
        raise ConfigError("sweep.import_from: a grid or an oracle lays out its own trials. Use sampler=default")
    trials: list[ImportedTrial] = []
    for name in config.sweep.import_from:
        source = _source(Path(config.dir) / "studies", name, settings)
        ended = [trial for trial in source.trials if trial.state in ("complete", "pruned")]
        imported = [entry for trial in ended if (entry := _import(trial, source, config, space, workshop))]
        log.warning("%d of the %d trials of %s have a point in this space: the sampler learns from them", len(imported), len(ended), name)
        trials += imported
    return trials


def _source(studies: Path, name: str, settings: Settings) -> StudyRecord:
    source = read_study(studies / name)
    if not source:
        known = [path.parent.name for path in studies.glob("*/journal.jsonl")]
        raise StudyError(f'sweep.import_from: no study "{name}" in {studies}. ' + did_you_mean(name, known, "Studies"))
    old = source.started.settings
    if other := [f"{path}: {old.get(path)!r} there, {settings.get(path)!r} here" for path in SAME if old.get(path) != settings.get(path)]:
        raise StudyError(f"sweep.import_from={name}: its trials saw other images or devices ({'; '.join(other)}). Leave it out")
    return source


def _import(trial: TrialRecord, source: StudyRecord, config: Experiment, space: Space, workshop: TrainingContext) -> ImportedTrial | None:
    """Return a trial as the new study sees it; None if it has no place there."""
    leaves = dict(flatten(merged(source.started.config, trial.settings)))
    point = _point(leaves, space)
    names = objective_names(config)
    if point is None or not space.feasible(point) or _identity(space, point, workshop) != trial.identity:
        return None
    if any(name not in trial.metrics for name in (names[:1] if trial.state == "pruned" else names)):
        return None
    same = source.started.objective == names[0]
    reports = {str(epoch): value for epoch, value in trial.reports.items()} if same else {}
    value = trial.value if same and trial.value is not None else trial.metrics[names[0]]
    return ImportedTrial(f"{source.started.study}:{trial.number}", point, trial.state, value, trial.metrics, reports)


def _point(leaves: Mapping[str, Any], space: Space) -> Params | None:
    """Return the point of a space that has these settings; None if a parameter cannot have its value."""

    def value(parameter: Parameter) -> Any:
        wanted = current_value(dict(leaves), parameter)
        nearest = nearest_value(parameter.distribution, wanted)
        close = isinstance(nearest, float) and isinstance(wanted, int | float) and math.isclose(nearest, wanted)
        return wanted if nearest == wanted or close else None

    point = space.fill_active(value)
    missing = any(p.name not in point and p.active({**space.fixed, **point}) for p in space.parameters)
    return None if missing else point


def _identity(space: Space, point: Params, workshop: TrainingContext) -> str | None:
    try:
        return training_identity(space, point, workshop)
    except ConfigError:
        return None  # its configuration does not compose
