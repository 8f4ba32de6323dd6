"""Compute from journal events what MLflow will hold; this file does not use MLflow."""

from __future__ import annotations

import hashlib
import math
import posixpath
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
from flowersweep.tracking.followers.naming import run_name, shown_tags
from flowersweep.tracking.masking import MASK, masked_text, secret
from flowersweep.tracking.throughput import images_per_second, settings_of_one

# Pruned is not FINISHED: the trial stopped early and its last metrics are no result.
STATUS = {
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
    "finished": "FINISHED",
    "interrupted": "KILLED",
}
LONGEST_TAG, LONGEST_KEY = 5000, 250


@dataclass(frozen=True)
class Point:
    """One value of one metric. All of it is in the journal, so sending it twice is harmless."""

    key: str
    value: float
    milliseconds: int
    step: int


@dataclass
class RunUpdate:
    """Pending changes of one run; ``trial`` is None for the run of the study itself."""

    trial: int | None
    name: str
    started: int
    identity: dict[str, str]  # tags set at creation; a search finds the run by them
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    status: str | None = None
    ended: int | None = None
    files: StudyStarted | TrialEnded | None = None  # the event whose artifacts are due
    begins: bool = False


class MlflowProjection:
    """The state of one study so far; turns new events into changes of MLflow runs."""

    def __init__(self) -> None:
        self.record = StudyRecord()
        self._samples = 0

    @property
    def study(self) -> StudyStarted:
        """The first event."""
        return self.record.started

    @property
    def open(self) -> set[int]:
        """The trials that have not ended yet."""
        return set(self.record.open)

    def add(self, events: Iterable[Event]) -> list[RunUpdate]:
        """Apply events and return the changes of runs, the study's run first."""
        changes: dict[int | None, RunUpdate] = {}
        for event in events:
            self.record.apply(event)
            self._take(event, changes)
        return sorted(
            changes.values(), key=lambda change: -1 if change.trial is None else change.trial
        )

    def killed(self, ended: float) -> list[RunUpdate]:
        """Return the changes that end the runs of a study whose process was killed.

        The list is empty if the study stopped normally. If the study resumes later, an event sets
        its runs to running again.

        Args:
            ended: Time of the end, in seconds since 1970.
        """
        changes: dict[int | None, RunUpdate] = {}
        if self.record.running:
            self._stop(StudyStopped(state="interrupted", time=ended), changes)
        return [*changes.values()]

    def identity(self) -> dict[str, str]:
        """Return the tags that tell this study's runs from an earlier study of its name."""
        return {
            "flowersweep.study": self.study.study,
            "flowersweep.started": str(_milliseconds(self.study.time)),
        }

    def _take(self, event: Event, changes: dict[int | None, RunUpdate]) -> None:
        now = _milliseconds(event.time)
        match event:
            case StudyStarted():
                change = self._change(None, changes)
                change.begins, change.files = True, event
                change.tags |= self._user_tags() | {"flowersweep.state": "running"}
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
                # MLflow's page has a tab for this prefix.
                metrics = {f"system/{name}": value for name, value in event.metrics.items()}
                self._change(None, changes).points += _points(metrics, now, self._samples)
                self._samples += 1
            case StudyStopped():
                self._stop(event, changes)
            case StudyResumed():
                for trial in (None, *self.record.open):
                    change = self._change(trial, changes)
                    change.status, change.ended = "RUNNING", None
                    change.tags |= self._user_tags() | {"flowersweep.state": "running"}

    def _user_tags(self) -> dict[str, str]:
        return {valid(k): value[:LONGEST_TAG] for k, value in shown_tags(self.record).items()}

    def _ask(self, event: TrialAsked, change: RunUpdate) -> None:
        change.begins = True
        params = event.params if self.study.space else settings_of_one(self.study)
        change.params |= {valid(name): _shown(name, value) for name, value in params.items()}
        change.tags |= self._user_tags() | {"flowersweep.state": "running"}
        change.tags |= {"flowersweep.seed": str(event.seed)} if event.seed is not None else {}
        change.tags |= {"flowersweep.code": self.record.code} if self.record.code else {}

    def _trial_ended(self, event: TrialEnded, change: RunUpdate) -> None:
        trial = self.record.trials[event.trial]
        last = max(trial.curve, default=0)
        rate = images_per_second(self.study, trial.settings, trial.epoch_ends)
        metrics = event.metrics | ({"images_per_second": rate} if rate else {})
        change.points += _points(metrics, _milliseconds(event.time), last)
        change.status, change.ended = STATUS[event.state], _milliseconds(event.time)
        change.files = event
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
        # Tags, not params: a resumed study may find a better trial, and params cannot change.
        change.tags |= {
            valid(f"flowersweep.best.{name}"): _shown(name, value)
            for name, value in best.params.items()
        }
        change.tags["flowersweep.best_trial"] = str(best.number)
        change.points += _points(best.ended.metrics if best.ended else {}, now, 0)

    def _change(self, trial: int | None, changes: dict[int | None, RunUpdate]) -> RunUpdate:
        if trial not in changes:
            start = self.study.time if trial is None else self.record.trials[trial].asked_time
            name = run_name(self.record, trial)
            kind = {"kind": "study"} if trial is None else {"kind": "trial", "trial": str(trial)}
            tags = self.identity() | {f"flowersweep.{key}": value for key, value in kind.items()}
            changes[trial] = RunUpdate(trial, name, _milliseconds(start), tags)
        return changes[trial]


def valid(key: str) -> str:
    """Return a name that MLflow takes for a param, metric or tag; other keys get other names.

    A key that MLflow takes stays. In any other all but letters, digits and ``_- :`` becomes ``_``,
    and a hash of the key follows.
    """
    path = posixpath.normpath(key)
    if (
        len(key) <= LONGEST_KEY
        and re.fullmatch(r"[\w.\- /:]+", key)
        and path == key
        and not path.startswith(("/", ".."))
        and path != "."
    ):
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]
    readable = re.sub(r"[^\w\- :]", "_", key)[: LONGEST_KEY - 9]
    return f"{readable}-{digest}"


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
