"""The trained trials that an ensemble is made of.

They are read from their studies' journals, and refused where they saw other images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from flowersweep.config.images import recorded_or_named
from flowersweep.config.keys import is_within
from flowersweep.config.schema import COSTS, Config, Data
from flowersweep.ensemble.averaging import is_soup, soup_name
from flowersweep.ensemble.soups import SOUP, Soups
from flowersweep.errors import ConfigError, StudyError, did_you_mean
from flowersweep.evaluation import ensemble
from flowersweep.evaluation.calibration import calibrated_nll, temperature
from flowersweep.evaluation.scores import Reals
from flowersweep.study.objectives import objective_names
from flowersweep.study.records import StudyRecord, ranked_records, read_study
from flowersweep.training.stages.stage import PARTS
from flowersweep.util.arrays import read_arrays

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Members:
    """Trained trials, with what they stored by part: tune and holdout."""

    names: tuple[str, ...]  # STUDY:TRIAL, or STUDY:TRIAL:TRIAL of the average of these networks
    logits: dict[str, list[np.ndarray]]  # (n, K) of each member
    labels: dict[str, np.ndarray]  # (n,), of tune and holdout
    data: Data  # where their images were
    digest: str  # of those images
    notes: tuple[str, ...] = ()  # of the soups among them: what is in them, and what is not

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


def load_members(config: Config, overrides: Sequence[str] = ()) -> Members | None:
    """Read what ``ensemble.members`` names, and make the soups among it.

    Args:
        overrides: The words of the command, which may say where the images lie now.

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
    asked = [str(member) for member in config.ensemble.members]
    data, digest = _images(studies, dict.fromkeys(member.partition(":")[0] for member in asked))
    here = replace(config, data=recorded_or_named(overrides, config.data, data))
    soups = Soups(here, digest)
    chosen = dict.fromkeys(
        name for member in asked for name in _named(studies, member, config.ensemble.top, soups)
    )
    if len(chosen) < 2:
        count = f"is {len(chosen)} complete trial: an ensemble needs two or more"
        raise StudyError(f"ensemble.members={config.ensemble.members} {count}")
    stored = {
        name: soups.arrays(name) if is_soup(name) else _logits(studies, name) for name in chosen
    }
    _require_same(stored)
    first = next(iter(stored.values()))
    logits = {part: [arrays[part] for arrays in stored.values()] for part in PARTS}
    return Members(
        tuple(stored),
        logits,
        {part: first[f"{part}_labels"] for part in PARTS},
        data,
        digest,
        tuple(soups.notes),
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
    if costs := [name for name in objective_names(config) if name in COSTS]:
        raise ConfigError(
            f"sweep.objectives: an ensemble trains nothing and has no {costs[0]}: leave it out"
        )
    return True


def _named(studies: Path, asked: str, top: int, soups: Soups) -> list[str]:
    """Return the members that ``STUDY``, ``STUDY:TRIAL`` or a soup names; the best come first."""
    study, *numbers = asked.split(":")
    record = _load_study(studies, study)
    complete = {
        str(trial.number): trial
        for trial in record.trials
        if trial.state == "complete" and trial.value is not None
    }
    if numbers == [SOUP]:
        return [soups.choose(study)]
    with_logits = [
        number
        for number in complete
        if (studies / study / "trials" / number / "logits.npz").exists()
    ]
    if not numbers:
        ranked = ranked_records([complete[number] for number in with_logits], record.objectives[0])
        return [f"{study}:{trial.number}" for trial in ranked[:top]]
    if unknown := [number for number in numbers if number not in complete]:
        raise StudyError(
            f'study "{study}" has no complete trial {unknown[0]}. '
            + did_you_mean(unknown[0], complete, "Complete trials")
        )
    if len(numbers) > 1:
        return [soup_name([f"{study}:{number}" for number in numbers])]
    (number,) = numbers
    if number not in with_logits:
        why = (
            "it took the result of another trial"
            if complete[number].reused is not None
            else "it was not among the best sweep.save_predictions_of_best"
        )
        raise StudyError(
            f"{study}:{number} has no logits any more ({why}). With logits: "
            f"{', '.join(with_logits)}"
        )
    return [f"{study}:{number}"]


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


def _logits(studies: Path, name: str) -> Arrays:
    study, _, number = name.partition(":")
    path = studies / study / "trials" / number / "logits.npz"
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
