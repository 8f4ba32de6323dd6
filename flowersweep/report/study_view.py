"""A study as it lies on disk: its trials with their curves, times and logits."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from optuna.distributions import json_to_distribution

from flowersweep.errors import StudyError
from flowersweep.evaluation.scores import Labels, Logits
from flowersweep.space.space import Parameter
from flowersweep.study.events import StudyStarted
from flowersweep.study.records import StudyRecord, TrialRecord, ranked_records, read_study
from flowersweep.util.arrays import read_arrays

log = logging.getLogger(__name__)

# trials in a chart of all of them; more would be a surface, and a page that a phone cannot open
BEST_DRAWN, OTHERS_DRAWN = 300, 700

LEFT_OUT = "left_out.csv"  # lists the images of data.extra that a study does not train on


@dataclass(frozen=True)
class Span:
    """When a trial ran, in seconds of running time since the study began.

    Pauses between two commands are left out.
    """

    start: float
    end: float
    # that had it last, in the order that they were started; None: the command's own process
    worker: int | None = None


@dataclass(frozen=True)
class Predictions:
    """What a complete trial left: logits (n, K) and labels (n,) of the tune and the holdout."""

    tune: Logits
    tune_labels: Labels
    holdout: Logits
    holdout_labels: Labels


@dataclass(frozen=True)
class StudyView:
    """One study, read once from its folder; nothing of it is locked or changed."""

    folder: Path
    record: StudyRecord
    parameters: tuple[Parameter, ...]

    @property
    def started(self) -> StudyStarted:
        """The first event: what the study is."""
        return self.record.started

    @property
    def name(self) -> str:
        return self.started.study

    @property
    def objective(self) -> str:
        return self.started.objective

    @property
    def records(self) -> list[TrialRecord]:
        """The trials, by number."""
        return self.record.trials

    @cached_property
    def curves(self) -> dict[int, dict[int, float]]:
        """The objective of each trial by epochs done."""
        return {trial.number: trial.curve for trial in self.records if trial.curve}

    @cached_property
    def spans(self) -> dict[int, Span]:
        """When each trial ran."""
        return {trial.number: Span(*trial.span, trial.worker) for trial in self.records}

    @cached_property
    def best(self) -> TrialRecord | None:
        return self.record.best

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """The trials that were completed, the best first."""
        return ranked_records(self.records, *self.record.objectives)

    @cached_property
    def drawn(self) -> list[TrialRecord]:
        """The trials that charts and tables show, by number.

        Of many trials they are the best and an even choice of the others.
        """
        if len(self.records) <= BEST_DRAWN + OTHERS_DRAWN:
            return self.records
        chosen = {r.number for r in self.complete[:BEST_DRAWN]}
        others = [r.number for r in self.records if r.number not in chosen]
        chosen |= {others[n * len(others) // OTHERS_DRAWN] for n in range(OTHERS_DRAWN)} | {
            r.number for r in self.records[-1:]
        }
        return [r for r in self.records if r.number in chosen]

    @property
    def sampled(self) -> str:
        """What is to be said of a chart that does not show all trials; nothing if it does."""
        if len(self.drawn) == len(self.records):
            return ""
        return (
            f"{len(self.drawn)} of {len(self.records)} trials are drawn: the {BEST_DRAWN} best, "
            "and an even choice of the others."
        )

    @property
    def held_out_digest(self) -> str | None:
        """The digest of the images without extra ones; None if the study does not say it."""
        known = self.started.provenance.get("data", {}).get("held_out_digest")
        return known or self.started.settings.get("data.digest")

    def left_out(self) -> Sequence[Sequence[str]]:
        """Return the rows of the list of extra images that are not trained on, heading first."""
        try:
            with (self.folder / LEFT_OUT).open(encoding="utf-8", newline="") as file:
                return [*csv.reader(file)]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, csv.Error) as error:
            log.warning("%s is left out of the report: %s", LEFT_OUT, error)
            return []

    def predictions(self, number: int) -> Predictions | None:
        """Return what a trial predicted on images that it has not seen.

        Returns:
            None if it has seen all labelled images, or if its file is not there or cannot be read.
        """
        if self.started.config.get("data", {}).get("train_on") == "all":
            return None
        path = self.folder / "trials" / str(number) / "logits.npz"
        if not path.exists():
            return None
        try:
            arrays = read_arrays(path)
            return Predictions(
                *(arrays[name] for name in ("tune", "tune_labels", "holdout", "holdout_labels"))
            )
        except (StudyError, KeyError) as error:
            log.warning("predictions are left out of the report: %s", error)
            return None


def load_study(folder: Path) -> StudyView:
    """Read the study in ``folder``.

    Raises StudyError if there is no journal with a study in it, or it is damaged.
    """
    record = read_study(folder)
    if not record:
        raise StudyError(f"{folder / 'journal.jsonl'} holds no study yet")
    space = record.started.space.items()
    parameters = (
        Parameter(name, p["path"], json_to_distribution(p["values"]), p.get("when") or {})
        for name, p in space
    )
    return StudyView(folder, record, tuple(parameters))
