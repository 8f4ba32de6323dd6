"""Opening the journal of a study: what the study is stands in it once, and every later command must mean the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optuna.distributions import json_to_distribution

from flowersweep.config.compose import compose_unchecked
from flowersweep.config.paths import Settings, differences, flatten
from flowersweep.config.schema import Config
from flowersweep.errors import StudyError
from flowersweep.provenance import code, diff, provenance
from flowersweep.search.acceptance import accept, lasting
from flowersweep.space.grammar import to_hydra
from flowersweep.space.space import Space
from flowersweep.study.journal import Event, Journal
from flowersweep.study.objectives import direction
from flowersweep.study.records import meant
from flowersweep.training.context import TrainingContext

# a study goes on whatever these are: they do not change what a trial means
FREE = (
    "topology",
    "cluster",
    "executor",
    "data.dir",
    "data.cache_bytes",
    "data.disk_cache_bytes",
    "verb",
    "study",
    "studies",
    "run",
    "alias",
    "version",
    "split",
    "output",
    "views",
    "port",
    "dir",
    "progress",
    "promotion",
    "force",
    "reason",
    "tracking",
    "trusted_modules",
    "sweep.n_trials",
    "sweep.accept",
    "sweep.mirror",
    "sweep.keep",
    "sweep.workers",
    "sweep.budget",
    "train.checkpoint_seconds",
)


def study_folder(config: Config) -> Path:
    """Return the folder of a configuration's study."""
    return Path(config.dir) / "studies" / str(config.study)


def open_or_verify(
    journal: Journal, config: Config, experiment: str, space: Space, overrides: Sequence[str], workshop: TrainingContext
) -> None:
    """Verify the images, and open the journal with what the study is; or make sure that it still is the same."""
    dataset = workshop.dataset(config.data)
    if not config.ensemble.members:
        workshop.batch(config)
    meaning = {"space": space.describe(), "settings": {p: v for p, v in flatten(config) if not p.startswith((*FREE, "sweep.space"))}}
    meaning["settings"] |= {"data.digest": dataset.digest, "replicas": workshop.runtime.replicas}
    meaning = json.loads(json.dumps(meaning))
    what = {"objective": config.sweep.objective, "direction": direction(config.sweep.objective)}
    if journal.events:
        if changed := _changed(meant(journal.events), meaning):
            if not config.sweep.accept:
                raise _refused(str(config.study), changed)
            accept(journal, config, space, workshop, changed, {"overrides": unaccepting(overrides), **what, **meaning})
        journal.append("resume", command=" ".join(overrides), code=code(config.trusted_modules))
        return
    changes = diff()
    if changes is not None:
        (journal.path.parent / "code.diff").write_text(changes)
    journal.append(
        "study",
        study=config.study,
        experiment=experiment,
        seed=config.seed,
        config=asdict(config),
        overrides=unaccepting(overrides),
        provenance=provenance(tuple(overrides), workshop.runtime, dataset, trusted=config.trusted_modules, changes=changes),
        **what,
        **meaning,
    )


def unaccepting(overrides: Sequence[str]) -> list[str]:
    """Return the words of a study without the one that was for a single command."""
    return [word for word in overrides if not word.startswith("sweep.accept=")]


def _changed(begun: Event, meaning: dict[str, Any]) -> list[str]:
    old, new = (dict(flatten({"space": _readable(each["space"]), **each["settings"]})) for each in (begun, meaning))
    return describe_changes(old, new)


def _readable(space: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {**entry, "values": to_hydra(json_to_distribution(entry["values"]))} for name, entry in space.items()}


def _refused(name: str, changed: Sequence[str]) -> StudyError:
    begun = f'study "{name}" was begun with other settings ({"; ".join(changed)}). Take them back, or begin another: study=NAME'
    return StudyError(begun + ("" if lasting(changed) else "; or go on with this one as they are now: sweep.accept=true"))


def describe_changes(old: Settings, new: Settings) -> list[str]:
    """Return which settings are not what they were. A key that is newer than the study was then what it is where nobody sets it."""
    apart = differences(old, new)
    usual = json.loads(json.dumps(dict(flatten(compose_unchecked(()))))) if apart else {}
    return [f"{path}: {a!r} -> {b!r}" for path, (a, b) in apart.items() if path in old or b != usual.get(path)]


def study_objectives(begun: Event) -> list[str]:
    """Return what a study optimises, from its first event."""
    return begun.get("config", {}).get("sweep", {}).get("objectives") or [begun["objective"]]
