"""A study as it lies on disk: its trials, their curves and times, and the logits that the complete ones left."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from optuna.distributions import json_to_distribution

from flowersweep.errors import StudyError
from flowersweep.evaluation.scores import Labels, Logits
from flowersweep.space.space import Parameter
from flowersweep.study.journal import Event, read_events
from flowersweep.study.objectives import study_objectives
from flowersweep.study.records import Record, fold_records, meant, ranked_records

log = logging.getLogger(__name__)

BEST_DRAWN, OTHERS_DRAWN = 300, 700  # trials in a chart of all of them; more would be a surface, and a page that a phone cannot open


@dataclass(frozen=True)
class Span:
    """When a trial ran, in seconds of running time since the study began: pauses between two commands are left out."""

    start: float
    end: float
    worker: int | None = None  # that had it last, in the order that they were started; None: the command's own process


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
    study_event: Event  # what the study is
    records: list[Record]
    curves: dict[int, dict[int, float]]  # trial -> epochs done -> objective
    spans: dict[int, Span]
    resumes: list[float]  # running time at which the study was gone on with
    parameters: tuple[Parameter, ...]
    forecasts: tuple[tuple[float, float, int], ...] = ()  # at which running time, how many minutes, for how many trials

    @property
    def name(self) -> str:
        return str(self.study_event["study"])

    @property
    def objective(self) -> str:
        return str(self.study_event["objective"])

    @cached_property
    def best(self) -> Record | None:
        """The trial that the sweep calls the best: with several objectives a tie is decided by the others."""
        return self.complete[0] if self.complete else None

    @cached_property
    def complete(self) -> list[Record]:
        """The trials that were completed, the best first."""
        return ranked_records(self.records, *study_objectives(self.study_event))

    @cached_property
    def drawn(self) -> list[Record]:
        """The trials that charts and tables show, by number: all of them, or the best and an even choice of the others."""
        if len(self.records) <= BEST_DRAWN + OTHERS_DRAWN:
            return self.records
        chosen = {r.number for r in self.complete[:BEST_DRAWN]}
        others = [r.number for r in self.records if r.number not in chosen]
        chosen |= {others[n * len(others) // OTHERS_DRAWN] for n in range(OTHERS_DRAWN)} | {r.number for r in self.records[-1:]}
        return [r for r in self.records if r.number in chosen]

    @property
    def sampled(self) -> str:
        """What is to be said of a chart that does not show all trials; nothing if it does."""
        if len(self.drawn) == len(self.records):
            return ""
        return f"{len(self.drawn)} of {len(self.records)} trials are drawn: the {BEST_DRAWN} best, and an even choice of the others."

    def predictions(self, number: int) -> Predictions | None:
        """Return what a trial predicted; None if its file is not there or cannot be read."""
        path = self.folder / "trials" / str(number) / "logits.npz"
        try:
            with np.load(path) as kept:
                return Predictions(*(kept[name] for name in ("tune", "tune_labels", "holdout", "holdout_labels")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            log.warning("%s cannot be read: %s", path, error)
            return None


def load_study(folder: Path) -> StudyView:
    """Read the study in ``folder``.

    Raises:
        StudyError: the folder has no journal with a study in it, or the journal is damaged.
    """
    events, _ = read_events(folder / "journal.jsonl")
    if not events or events[0]["event"] != "study":
        raise StudyError(f"{folder / 'journal.jsonl'} holds no study yet")
    study = meant(events)
    parameters = (
        Parameter(name, p["path"], json_to_distribution(p["values"]), p.get("when") or {}) for name, p in study.get("space", {}).items()
    )
    moments, resumes = _running_time(events)
    timed = [*zip(events, moments, strict=True)]
    forecasts = ((moment, float(event["minutes"]), int(event["trials"])) for event, moment in timed if event["event"] == "forecast")
    return StudyView(
        folder,
        {"settings": {}, **study},
        fold_records(events),
        _curves(events, study.get("objective", "")),
        _spans(timed),
        resumes,
        tuple(parameters),
        tuple(forecasts),
    )


def _running_time(events: Iterable[Event]) -> tuple[list[float], list[float]]:
    """Return when each event was, less the pauses before it was gone on with, and when these ends of pauses were."""
    moments: list[float] = []
    resumes: list[float] = []
    zero = previous = 0.0
    for event in events:
        time = float(event["time"])
        if not moments:
            zero = time
        elif event["event"] == "resume":
            zero += time - previous
            resumes.append(time - zero)
        moments.append(time - zero)
        previous = time
    return moments, resumes


def _spans(timed: Iterable[tuple[Event, float]]) -> dict[int, Span]:
    """From a trial's first event to its last."""
    found: dict[int, Span] = {}
    for event, moment in timed:
        if event["event"] in ("ask", "report", "tell"):
            known = found.get(event["trial"])
            worker = event.get("worker", known.worker if known else None)
            found[event["trial"]] = Span(known.start if known else moment, moment, worker)
    return found


def _curves(events: Iterable[Event], objective: str) -> dict[int, dict[int, float]]:
    curves: dict[int, dict[int, float]] = {}
    for event in events:
        if event["event"] == "report":
            curves.setdefault(event["trial"], {}).update(_points(event, objective))
    return curves


def _points(event: Event, objective: str) -> Iterator[tuple[int, float]]:
    yield int(event["epochs"][-1]["epoch"]), float(event["value"])
    for epoch in event["epochs"]:
        if objective in epoch.get("metrics", {}):
            yield int(epoch["epoch"]), float(epoch["metrics"][objective])
