"""Opening the journal of a study: what the study is stands in it once, and every later command must mean the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optuna.distributions import json_to_distribution

from flowersweep.config.compose import compose_unchecked
from flowersweep.config.keys import COMPARED, settings_with_role
from flowersweep.config.paths import Settings, differences, flatten
from flowersweep.config.schema import Config
from flowersweep.errors import StudyError
from flowersweep.provenance import code, diff, provenance
from flowersweep.search.importing import import_trials
from flowersweep.space.grammar import to_hydra
from flowersweep.space.space import Space
from flowersweep.study.events import StudyResumed, StudyStarted
from flowersweep.study.journal import Journal
from flowersweep.study.objectives import direction
from flowersweep.study.records import StudyRecord
from flowersweep.training.context import TrainingContext


def study_folder(config: Config) -> Path:
    """Return the folder of a configuration's study."""
    return Path(config.dir) / "studies" / str(config.study)


def compared_settings(config: Config) -> Settings:
    """Return what must stay the same while a study goes on, by dotted path; of its space only what is in it, however it is written."""
    return settings_with_role(replace(config, sweep=replace(config.sweep, space={})), *COMPARED)


def open_or_verify(
    journal: Journal, config: Config, experiment: str, space: Space, overrides: Sequence[str], workshop: TrainingContext
) -> None:
    """Verify the images, and open the journal with what the study is; or make sure that it still is the same."""
    dataset = workshop.dataset(config.data)
    if not config.ensemble.members:
        workshop.batch(config)
    facts = {"data.digest": dataset.digest, "replicas": workshop.runtime.replicas}
    meaning = {"space": space.describe(), "settings": compared_settings(config) | facts}
    meaning = json.loads(json.dumps(meaning))
    if journal.events:
        if changed := _changed(StudyRecord(journal.events[:1]).started, meaning):
            raise _refused(str(config.study), changed)
        journal.append(StudyResumed(command=" ".join(overrides), n_trials=config.sweep.n_trials, code=code(config.trusted_modules)))
        return
    changes = diff()
    if changes is not None:
        (journal.path.parent / "code.diff").write_text(changes)
    journal.append(
        StudyStarted(
            study=str(config.study),
            experiment=experiment,
            seed=config.seed,
            config=json.loads(json.dumps(asdict(config.experiment))),
            overrides=[*overrides],
            objective=config.sweep.objective,
            direction=direction(config.sweep.objective),
            provenance=provenance(tuple(overrides), workshop.runtime, dataset, trusted=config.trusted_modules, changes=changes),
            imported=import_trials(config, space, workshop, meaning["settings"]),
            **meaning,
        )
    )


def _changed(started: StudyStarted, meaning: dict[str, Any]) -> list[str]:
    was = {"space": started.space, "settings": started.settings}
    old, new = (dict(flatten({"space": _readable(side["space"]), **side["settings"]})) for side in (was, meaning))
    return describe_changes(old, new)


def _readable(space: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {**entry, "values": to_hydra(json_to_distribution(entry["values"]))} for name, entry in space.items()}


def _refused(name: str, changed: Sequence[str]) -> StudyError:
    return StudyError(
        f'study "{name}" was started with other settings ({"; ".join(changed)}). Take them back, or start another study: '
        f"study=NAME; with sweep.import_from={name} it learns from this one's trials"
    )


def describe_changes(old: Settings, new: Settings) -> list[str]:
    """Return which settings are not what they were. A key that is newer than the study was then what it is where nobody sets it."""
    apart = differences(old, new)
    usual = json.loads(json.dumps(dict(flatten(compose_unchecked(()))))) if apart else {}
    return [f"{path}: {a!r} -> {b!r}" for path, (a, b) in apart.items() if path in old or b != usual.get(path)]
