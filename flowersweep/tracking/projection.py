"""What the runs of a study must be told, read off its journal: no MLflow here, only what it will hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flowersweep.study.events import (
    EpochsReported,
    Event,
    MachineSampled,
    ProgramsCompiled,
    StudyResumed,
    StudyStarted,
    StudyStopped,
    TrialAsked,
    TrialEnded,
)
from flowersweep.study.records import StudyRecord, TrialRecord
from flowersweep.tracking.masking import MASK, masked_text, secret
from flowersweep.tracking.throughput import images_per_second, settings_of_one

# A pruned trial was stopped early and its last metrics are no result, so it must not read FINISHED beside those that ended.
STATUS = {
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
    "finished": "FINISHED",
    "interrupted": "KILLED",
}
LONGEST_TAG = 5000


@dataclass(frozen=True)
class Point:
    """One value of one metric; everything in it comes from the journal, so that it can be sent twice."""

    key: str
    value: float
    milliseconds: int
    step: int


@dataclass
class RunUpdate:
    """What one run must still be told; ``trial`` is None for the run of the study itself."""

    trial: int | None
    name: str
    started: int
    identity: dict[str, str]  # tags it is made with, and found again by
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    status: str | None = None
    ended: int | None = None
    files: StudyStarted | TrialEnded | None = None  # the event whose artifacts are due
    begins: bool = False


class MlflowProjection:
    """The events of one study so far, and what MLflow must be told of the next ones."""

    def __init__(self) -> None:
        self.record = StudyRecord()
        self._samples = 0

    @property
    def study(self) -> StudyStarted:
        """The first event."""
        return self.record.started

    @property
    def open(self) -> set[int]:
        """The trials that have not ended."""
        return set(self.record.open)

    def add(self, events: Iterable[Event]) -> list[RunUpdate]:
        """Take in events and return what they change, the study's run first."""
        changes: dict[int | None, RunUpdate] = {}
        for event in events:
            self.record.apply(event)
            self._take(event, changes)
        return sorted(
            changes.values(), key=lambda change: -1 if change.trial is None else change.trial
        )

    def killed(self, ended: float) -> list[RunUpdate]:
        """Return what the runs must be told of a study whose process was killed, at ``ended`` seconds since 1970; nothing if it was not.

        A study that ended in order has said so. One that goes on says that too, and its runs are running again.
        """
        changes: dict[int | None, RunUpdate] = {}
        if self.record.running:
            self._stop(StudyStopped(state="interrupted", time=ended), changes)
        return [*changes.values()]

    def identity(self) -> dict[str, str]:
        """Return the tags by which the runs of this study are told from those of an earlier one of the same name."""
        return {
            "flowersweep.study": self.study.study,
            "flowersweep.begun": str(_milliseconds(self.study.time)),
        }

    def _take(self, event: Event, changes: dict[int | None, RunUpdate]) -> None:
        now = _milliseconds(event.time)
        match event:
            case StudyStarted():
                change = self._change(None, changes)
                change.begins, change.files = True, event
                change.tags |= {"flowersweep.state": "running"}
            case TrialAsked():
                self._ask(event, self._change(event.trial, changes))
            case EpochsReported():
                for epoch in event.epochs:
                    self._change(event.trial, changes).points += _points(
                        epoch.metrics, _milliseconds(epoch.time), epoch.epoch
                    )
            case TrialEnded():
                self._trial_ended(event, self._change(event.trial, changes))
            case ProgramsCompiled():
                self._change(event.trial, changes).points += _points(
                    {"compiles": event.programs}, now, 0
                )
            case MachineSampled():
                metrics = {
                    f"system/{name}": value for name, value in event.metrics.items()
                }  # MLflow's page has a tab for this prefix
                self._change(None, changes).points += _points(metrics, now, self._samples)
                self._samples += 1
            case StudyStopped():
                self._stop(event, changes)
            case StudyResumed():
                for trial in (None, *self.record.open):
                    change = self._change(trial, changes)
                    change.status, change.ended = "RUNNING", None
                    change.tags["flowersweep.state"] = "running"

    def _ask(self, event: TrialAsked, change: RunUpdate) -> None:
        change.begins = True
        params = event.params if self.study.space else settings_of_one(self.study)
        change.params |= {valid(name): _shown(name, value) for name, value in params.items()}
        change.tags |= {"flowersweep.state": "running"}
        change.tags |= {"flowersweep.seed": str(event.seed)} if event.seed is not None else {}
        change.tags |= {"flowersweep.code": self.record.code} if self.record.code else {}

    def _trial_ended(self, event: TrialEnded, change: RunUpdate) -> None:
        trial = self.record.trials[event.trial]
        last = max(trial.curve, default=0)
        rate = images_per_second(self.study, trial.settings, trial.epoch_ends)
        metrics = event.metrics | ({"images_per_second": rate} if rate else {})
        change.points += _points(metrics, _milliseconds(event.time), last)
        change.status, change.ended, change.files = (
            STATUS[event.state],
            _milliseconds(event.time),
            event,
        )
        change.tags |= {"flowersweep.state": event.state}
        if event.reason:
            change.tags["flowersweep.reason"] = masked_text(event.reason)[:LONGEST_TAG]

    def _stop(self, event: StudyStopped, changes: dict[int | None, RunUpdate]) -> None:
        status, ended = STATUS[event.state], _milliseconds(event.time)
        for trial in (None, *self.record.open):
            change = self._change(trial, changes)
            change.status, change.ended = status if trial is None else "KILLED", ended
            change.tags["flowersweep.state"] = event.state if trial is None else "interrupted"
        if event.best is not None:
            self._copy_best(self.record.trials[event.best], ended, self._change(None, changes))

    def _copy_best(self, best: TrialRecord, now: int, change: RunUpdate) -> None:
        # MLflow's params can never change, but a resumed study may find a better trial: the best ones are tags.
        change.tags |= {
            f"flowersweep.best.{valid(name)}": _shown(name, value)
            for name, value in best.params.items()
        }
        change.tags["flowersweep.best_trial"] = str(best.number)
        change.points += _points(best.ended.metrics if best.ended else {}, now, 0)

    def _change(self, trial: int | None, changes: dict[int | None, RunUpdate]) -> RunUpdate:
        if trial not in changes:
            study = self.study.study
            began = self.study.time if trial is None else self.record.trials[trial].asked_time
            name = study if trial is None else f"{study}-{trial:04d}"
            kind = {"kind": "study"} if trial is None else {"kind": "trial", "trial": str(trial)}
            tags = self.identity() | {f"flowersweep.{key}": value for key, value in kind.items()}
            changes[trial] = RunUpdate(trial, name, _milliseconds(began), tags)
        return changes[trial]


def valid(key: str) -> str:
    """Return a key that MLflow accepts, in which all but letters, digits and ``_-. /:`` become ``_``."""
    return re.sub(r"[^\w.\- /:]", "_", key)[:250]


def _shown(name: str, value: Any) -> str:
    return MASK if secret(name) else masked_text(str(value))[:LONGEST_TAG]


def _points(metrics: dict[str, float], now: int, step: int) -> list[Point]:
    return [
        Point(valid(key), value, now, step)
        for key, value in metrics.items()
        if math.isfinite(value)
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
