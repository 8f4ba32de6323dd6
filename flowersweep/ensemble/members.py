"""The trained trials that an ensemble is made of.

They are read from their studies' journals, and refused where they saw other images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from flowersweep.config.keys import is_within
from flowersweep.config.schema import Config, Data
from flowersweep.errors import ConfigError, StudyError, did_you_mean
from flowersweep.evaluation import ensemble
from flowersweep.evaluation.calibration import calibrated_nll, temperature
from flowersweep.evaluation.scores import Reals
from flowersweep.study.objectives import objective_names
from flowersweep.study.records import StudyRecord, read_study
from flowersweep.util.arrays import read_arrays

PARTS = ("tune", "holdout", "test")

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Members:
    """Trained trials, with what they stored by part: tune, holdout and perhaps test."""

    names: tuple[str, ...]  # STUDY:TRIAL
    logits: dict[str, list[np.ndarray]]  # (n, K) of each member
    labels: dict[str, np.ndarray]  # (n,), of tune and holdout
    data: Data  # where their images were
    digest: str  # of those images

    @cached_property
    def temperatures(self) -> Reals:
        """The temperature of each member on tune, (m,)."""
        return np.array(
            [temperature(logits, self.labels["tune"]) for logits in self.logits["tune"]]
        )

    @cached_property
    def member_nll(self) -> Reals:
        """The calibrated NLL of each member on tune, (m,)."""
        return np.array(
            [calibrated_nll(logits, self.labels["tune"]) for logits in self.logits["tune"]]
        )

    @cached_property
    def log_probs(self) -> Reals:
        """The log-probabilities of each member on tune, (m, n, K)."""
        return ensemble.calibrated_log_probs(self.logits["tune"], self.temperatures)

    @cached_property
    def label_probs(self) -> Reals:
        """The probability that each member gives the class of each image of tune, (m, n)."""
        labels = self.labels["tune"]
        chances: Reals = np.exp(self.log_probs[:, np.arange(len(labels)), labels])
        return chances

    def pool(self, weights: Sequence[float] | Reals, pooling: str) -> ensemble.Pool:
        """Return the members with these relative weights, all else fitted on tune."""
        return ensemble.pool(self.logits["tune"], self.labels["tune"], weights, pooling=pooling)


def load_members(config: Config) -> Members | None:
    """Read what ``ensemble.members`` names.

    Returns:
        None if it names nothing.

    Raises:
        ConfigError: The sweep is not one of an ensemble, or is one without members.
        StudyError: A study or trial is not there or has no logits, or the members saw other images
            or halves of val.
    """
    studies = Path(config.dir) / "studies"
    if not _pools_members(config, studies):
        return None
    chosen = list(
        dict.fromkeys(
            member
            for asked in config.ensemble.members
            for member in _trials(studies, str(asked), config.ensemble.top)
        )
    )
    if len(chosen) < 2:
        raise StudyError(
            f"ensemble.members={config.ensemble.members} is {len(chosen)} complete trial: an "
            "ensemble needs two or more"
        )
    data, digest = _images(studies, dict.fromkeys(study for study, _ in chosen))
    stored = {
        f"{study}:{trial}": _logits(studies / study / "trials" / str(trial) / "logits.npz")
        for study, trial in chosen
    }
    _require_same(stored)
    first = next(iter(stored.values()))
    logits = {
        part: [arrays[part] for arrays in stored.values()]
        for part in PARTS
        if all(part in arrays for arrays in stored.values())
    }
    return Members(
        tuple(stored),
        logits,
        {part: first[f"{part}_labels"] for part in ("tune", "holdout")},
        data,
        digest,
    )


def _pools_members(config: Config, studies: Path) -> bool:
    """Return whether a sweep pools trained trials.

    Raises:
        ConfigError: It says so in a part of its words only.
    """
    paths = [
        str(entry["path"])
        for entry in config.sweep.space.values()
        if isinstance(entry, Mapping) and "path" in entry
    ]
    foreign = [path for path in paths if not is_within(path, "ensemble")]
    if not config.ensemble.members:
        if paths and not foreign:
            raise ConfigError(
                "which trials are pooled? ensemble.members=[STUDY,STUDY:TRIAL,...]. "
                + _known("", studies)
            )
        return False
    if foreign:
        raise ConfigError(
            f"ensemble.members is given, and a pool of trained trials has no {foreign[0]} to "
            "search: take +sweep=ensemble"
        )
    if "time" in objective_names(config):
        raise ConfigError("sweep.objectives: an ensemble takes no time of training: leave time out")
    return True


def _trials(studies: Path, asked: str, top: int) -> list[tuple[str, int]]:
    """Return study and number of the trials that ``STUDY:TRIAL`` or ``STUDY`` names.

    The best comes first.
    """
    study, _, number = asked.partition(":")
    record = _load_study(studies, study)
    trials = record.trials
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    with_logits = [
        trial
        for trial in complete
        if (studies / study / "trials" / str(trial.number) / "logits.npz").exists()
    ]
    if not number:
        sign = 1 if record.started.direction == "minimize" else -1
        return [
            (study, trial.number)
            for trial in sorted(with_logits, key=lambda trial: sign * (trial.value or 0.0))[:top]
        ]
    known = {str(trial.number) for trial in complete}
    if number not in known:
        raise StudyError(
            f'study "{study}" has no complete trial {number}. '
            + did_you_mean(number, known, "Complete trials")
        )
    if number not in {str(trial.number) for trial in with_logits}:
        why = (
            "it took the result of another trial"
            if trials[int(number)].reused is not None
            else "it was not among the best sweep.save_predictions_of_best"
        )
        raise StudyError(
            f"{study}:{number} has no logits any more ({why}). With logits: "
            f"{', '.join(str(trial.number) for trial in with_logits)}"
        )
    return [(study, int(number))]


def _load_study(studies: Path, study: str) -> StudyRecord:
    record = read_study(studies / study)
    if not record:
        raise StudyError(
            f'ensemble.members: no study "{study}" in {studies}. ' + _known(study, studies)
        )
    return record


def _known(study: str, studies: Path) -> str:
    return did_you_mean(
        study, [path.parent.name for path in studies.glob("*/journal.jsonl")], "Studies"
    )


def _logits(path: Path) -> Arrays:
    if not path.exists():
        raise StudyError(
            f"{path} is not there, and a member needs its logits: name another trial, or "
            "restore the file"
        )
    return read_arrays(path)


def _images(studies: Path, names: Mapping[str, None]) -> tuple[Data, str]:
    """Return where the images of these studies were, and their digest.

    Raises:
        StudyError: They saw others, or other halves of val.
    """
    started = {name: _load_study(studies, name).started for name in names}
    seen = {
        name: (
            first.settings["data.digest"],
            first.settings["data.split_seed"],
            first.settings.get("data.folds", 1),
        )
        for name, first in started.items()
    }
    if len(set(seen.values())) > 1:
        folders = "; ".join(
            f"{name}: digest {digest}, data.split_seed={seed}, data.folds={folds}"
            for name, (digest, seed, folds) in seen.items()
        )
        raise StudyError(
            "the members saw other images or other halves of val, or were judged by others "
            f"({folders}): pool trials that saw the same, judged alike"
        )
    first = next(iter(started.values()))
    known = {field.name for field in fields(Data)}
    recorded = {key: value for key, value in first.config["data"].items() if key in known}
    folds = first.settings.get("data.folds", 1)
    return Data(**{**recorded, "folds": folds}), str(first.settings["data.digest"])


def _require_same(stored: Mapping[str, Arrays]) -> None:
    (name, first), *others = stored.items()
    for other, arrays in others:
        for part in ("tune", "holdout"):
            same = (
                np.array_equal(first[f"{part}_labels"], arrays[f"{part}_labels"])
                and first[part].shape == arrays[part].shape
            )
            if not same:
                raise StudyError(
                    f"{other} and {name} have other labels or classes in {part}: pool trials "
                    "on the same images"
                )
