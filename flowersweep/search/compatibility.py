"""Open the journal of a study.

The first event says what the study is. Every later command must mean the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optuna.distributions import json_to_distribution

from flowersweep.config.command_only import without_variables
from flowersweep.config.compose import compose_unchecked
from flowersweep.config.keys import COMPARED, settings_with_role
from flowersweep.config.paths import Settings, differences, flatten
from flowersweep.config.schema import Config
from flowersweep.errors import StudyError
from flowersweep.execution.protocol import Trainer
from flowersweep.search.importing import import_trials
from flowersweep.search.source import TrialSource
from flowersweep.space.grammar import to_hydra
from flowersweep.space.space import Space
from flowersweep.study.events import StudyResumed, StudyStarted
from flowersweep.study.journal import Journal
from flowersweep.study.objectives import direction
from flowersweep.study.records import StudyRecord
from flowersweep.tracking.masking import MASK

# after a change of one of these settings, no old trial can be imported
INCOMPARABLE = ("data", "replicas", "ensemble", "seed")


def study_folder(config: Config) -> Path:
    """Return the folder of a configuration's study."""
    return Path(config.dir) / "studies" / str(config.study)


def compared_settings(config: Config) -> Settings:
    """Return the settings that must stay the same in a study, by dotted path.

    The space is left out: ``open_or_verify`` compares its meaning, not how it is written.
    """
    return settings_with_role(replace(config, sweep=replace(config.sweep, space={})), *COMPARED)


def open_or_verify(
    journal: Journal,
    config: Config,
    source: TrialSource,
    trainer: Trainer,
    *,
    experiment: str,
    overrides: Sequence[str],
    code: str,
    provenance: Callable[[], dict[str, Any]],
) -> None:
    """Write the first event of a new study, or verify that an old study is still the same.

    Raises:
        StudyError: A setting that decides what a trial is has changed.
    """
    facts = trainer.facts(config)
    meaning = {"space": source.describe(), "settings": compared_settings(config) | facts}
    meaning = _recordable(meaning, overrides)
    tags = _recordable(config.tracking.tags, overrides)
    run_name = config.tracking.run_name
    if journal.events:
        started = StudyRecord(journal.events[:1]).started
        if changed := _changed(started, meaning, facts):
            raise _refused(str(config.study), changed)
        command, trials = " ".join(overrides), config.sweep.n_trials
        journal.append(
            StudyResumed(
                command=command, n_trials=trials, code=code, tags=tags or None, run_name=run_name
            )
        )
        return
    # the import may raise, so it comes before the first write
    imported = []
    if isinstance(source, Space):
        imported = import_trials(config, source, trainer, meaning["settings"])
    journal.append(
        StudyStarted(
            study=str(config.study),
            experiment=experiment,
            seed=config.seed,
            config=_recordable(asdict(config.experiment), overrides),
            overrides=[*overrides],
            objective=config.sweep.objective,
            direction=direction(config.sweep.objective),
            provenance=_recordable(provenance(), overrides),
            imported=imported,
            tags=tags,
            run_name=run_name,
            **meaning,
        )
    )


def _recordable(content: Any, words: Sequence[str]) -> Any:
    """Return plain data as a journal holds it: no value of ``${oc.env:NAME}`` is in it."""
    return without_variables(json.loads(json.dumps(content)), words, MASK)


def _changed(started: StudyStarted, meaning: dict[str, Any], facts: Collection[str]) -> list[str]:
    """Describe what differs between a study and a command that goes on with it."""
    before = {"data.folds": 1, **started.settings}  # a study from before there were folds
    # a study from before a fact was noted has nothing to compare it with
    now = {
        path: value
        for path, value in meaning["settings"].items()
        if path in before or path not in facts
    }
    old = dict(flatten({"space": _readable(started.space), **before}))
    new = dict(flatten({"space": _readable(meaning["space"]), **now}))
    return describe_changes(old, new)


def _readable(space: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {**entry, "values": to_hydra(json_to_distribution(entry["values"]))}
        for name, entry in space.items()
    }


def _refused(name: str, changed: Sequence[str]) -> StudyError:
    refusal = (
        f'study "{name}" was started with other settings '
        f"({'; '.join(changed)}). Take them back, or "
        "start another: study=NAME"
    )
    if any(change.split(": ")[0].split(".")[0] in INCOMPARABLE for change in changed):
        return StudyError(refusal)
    return StudyError(
        f"{refusal}. For one that learns from the trials of this: study=NAME "
        f"'sweep.import_from=[{name}]'"
    )


def describe_changes(old: Settings, new: Settings) -> list[str]:
    """Return a description of each setting that has changed.

    A key that is newer than the study counts as if the study had used the default.
    """
    changes = differences(old, new)
    defaults = json.loads(json.dumps(dict(flatten(compose_unchecked(()))))) if changes else {}
    return [
        f"{path}: {a!r} -> {b!r}"
        for path, (a, b) in changes.items()
        if path in old or b != defaults.get(path)
    ]
