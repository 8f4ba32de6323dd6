"""The study that is promoted: what its journal says, and what may be said of its best trial."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from flowersweep.config.command_only import USUAL
from flowersweep.config.compose import compose, parse
from flowersweep.config.images import require_own_images
from flowersweep.config.keys import is_within, key_of, role_of, says, settings_with_role
from flowersweep.config.schema import Config
from flowersweep.config.setting import COMMAND, TRAINED
from flowersweep.data.dataset import open_dataset
from flowersweep.errors import StudyError, TrackingError
from flowersweep.search.compatibility import describe_changes, study_folder
from flowersweep.space.space import Space, build_space
from flowersweep.study.events import StudyStarted
from flowersweep.study.records import StudyRecord, read_study
from flowersweep.study.sentences import describe_best
from flowersweep.tracking.shipper import run_ids


def load_study(config: Config) -> StudyRecord:
    """Return what the journal of the configured study says.

    Raises:
        StudyError: The study has no complete trial, or is not here.
    """
    folder = study_folder(config)
    study = read_study(folder)
    if not any(trial.state == "complete" for trial in study.trials):
        raise StudyError(
            f'the study "{config.study}" has no complete trial in {folder}: run it there first'
        )
    return study


def searched(
    config: Config, started: StudyStarted, overrides: Sequence[str]
) -> tuple[Config, Space]:
    """Return the configuration and the space of a study, with words that come on top.

    Raises:
        StudyError: The study's own words mean something else by now.
    """
    words = journal_words(started.overrides)
    _require_same(started, compose(words))
    composed = compose([*words, *overrides])
    if not says(overrides, "data", "data.dir", "data.fetch"):
        require_own_images(composed.data)
    base = config.with_experiment(composed.experiment)
    if not started.config["sweep"]["space"]:
        return base, Space((), {}, (*words, *overrides), frozenset())
    return base, build_space(base, [*words, *overrides], parse(words))


def require_held_out(config: Config, started: StudyStarted) -> None:
    """Check that the images of ``config`` can decide a promotion of a study.

    Raises:
        StudyError: None of them is held out, or their classes are not those of the study.
    """
    if config.data.train_on == "all":
        raise StudyError(
            f"the study {started.study} was trained on all labelled images, so none is held out to "
            "decide by. Run it without data.train_on=all, and promote that: its best configuration "
            "is then trained on all of them"
        )
    cache = Path(config.dir) / "cache"
    dataset = open_dataset(config.data, cache, trusted=tuple(config.trusted_modules))
    before = started.settings.get("data.class_names", dataset.class_names)
    if before != dataset.class_names:
        raise StudyError(
            f"the classes of {dataset.dir} are {dataset.class_names}, and those of the study "
            f"{started.study} were {before}. Name a folder of the same classes in the same order, "
            "or their names: data.classes=FILE"
        )


def journal_words(overrides: Sequence[str]) -> list[str]:
    """Return the words that a study was started with, less those that a journal must not say.

    A journal may be somebody else's. Which modules and which cluster are trusted, and where else
    configurations lie, is for the command to say.
    """
    keys = zip(overrides, map(key_of, overrides), strict=True)
    return [
        word
        for word, key in keys
        if role_of(key) not in (None, COMMAND) and not is_within(key, *USUAL)
    ]


def best_run(config: Config) -> str | None:
    """Return the MLflow run of a study's best trial by its journal; None if that is not here.

    Not by the study's name: another study of that name may be in the same store.

    Raises:
        StudyError: There is no such trial.
        TrackingError: MLflow has no run of it.
    """
    folder = study_folder(config)
    if not read_study(folder):
        return None
    best = load_study(config).best
    runs = run_ids(folder / "journal.jsonl", config.tracking, Path(config.dir)).trials
    if best is None or best.number not in runs:
        number = "the best trial" if best is None else f"trial {best.number}"
        raise TrackingError(
            f"MLflow has no run of {number} of the study {config.study}. Send it: sync "
            f"study={config.study}. If its run was deleted, restore it"
        )
    return runs[best.number]


def promotion_evidence(config: Config) -> dict[str, str]:
    """Return what may be said of a study's best trial; nothing if its journal is not here."""
    folder = study_folder(config)
    study = read_study(folder)
    if not study:
        return {}
    best = describe_best(folder, study.best, len(study.trials), study.started.objective)
    return {"flowersweep.claim": best}


def _require_same(started: StudyStarted, now: Config) -> None:
    """Raise StudyError if files in ``conf`` or ``sweeps`` have changed what the words mean."""
    old = {path: value for path, value in started.settings.items() if role_of(path) is TRAINED}
    new = json.loads(json.dumps(settings_with_role(now, TRAINED)))
    if now.data.folds is None:  # the study chose them
        new["data.folds"] = old.get("data.folds")
    if changed := describe_changes(old, new):
        raise StudyError(
            "the study was started with other settings than its words mean now "
            f"({'; '.join(changed)}): take the changes back"
        )
