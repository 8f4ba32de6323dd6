"""Opening the journal of a study: what the study is stands in it once, and every later command must mean the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flowersweep.compose import composed
from flowersweep.config import Config, Settings, differences, flatten
from flowersweep.errors import ConfigError, StudyError
from flowersweep.journal import Event, Journal
from flowersweep.provenance import code, diff, provenance
from flowersweep.search.forecast import known_refusal
from flowersweep.search.objectives import direction
from flowersweep.search.space import Space
from flowersweep.training.workshop import Workshop

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
    "sweep.n_trials",
    "sweep.mirror",
    "sweep.keep",
    "sweep.workers",
    "sweep.budget",
    "train.checkpoint_seconds",
)


def folder_of(config: Config) -> Path:
    """Return the folder of a configuration's study."""
    return Path(config.dir) / "studies" / str(config.study)


def begin(journal: Journal, config: Config, experiment: str, space: Space, overrides: Sequence[str], workshop: Workshop) -> None:
    """Verify the images, and open the journal with what the study is; or make sure that it still is the same."""
    dataset = workshop.dataset(config.data)
    if not config.ensemble.members:
        workshop.batch(config)
    meaning = {"space": space.describe(), "settings": {p: v for p, v in flatten(config) if not p.startswith((*FREE, "sweep.space"))}}
    meaning["settings"] |= {"data.digest": dataset.digest, "replicas": workshop.runtime.replicas}
    meaning = json.loads(json.dumps(meaning))
    if not journal.events and (refusal := known_refusal(config, workshop)):
        raise ConfigError(refusal)
    if journal.events:
        _require_same(journal.events[0], meaning, str(config.study))
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
        objective=config.sweep.objective,
        direction=direction(config.sweep.objective),
        config=asdict(config),
        overrides=list(overrides),
        provenance=provenance(tuple(overrides), workshop.runtime, dataset, trusted=config.trusted_modules, changes=changes),
        **meaning,
    )


def _require_same(begun: Event, meaning: dict[str, Any], name: str) -> None:
    old, new = (dict(flatten({"space": each["space"], **each["settings"]})) for each in (begun, meaning))
    if changed := moved(old, new):
        raise StudyError(
            f'study "{name}" was begun with other settings ({"; ".join(changed)}). Take them back, or begin another: study=NAME'
        )


def moved(old: Settings, new: Settings) -> list[str]:
    """Return which settings are not what they were. A key that is newer than the study was then what it is where nobody sets it."""
    apart = differences(old, new)
    usual = json.loads(json.dumps(dict(flatten(composed(()))))) if apart else {}
    return [f"{path}: {a!r} -> {b!r}" for path, (a, b) in apart.items() if path in old or b != usual.get(path)]


def objectives_of(begun: Event) -> list[str]:
    """Return what a study optimises, from its first event."""
    return begun.get("config", {}).get("sweep", {}).get("objectives") or [begun["objective"]]
