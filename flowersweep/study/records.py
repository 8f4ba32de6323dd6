"""Fold the events of a journal into the state of a study and its trials.

The Optuna study, the MLflow runs, the report, status, budgets and the plan read this state, never
the events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowersweep.errors import StudyError
from flowersweep.study.events import (
    EpochsReported,
    Event,
    ForecastMade,
    ModelLogged,
    StudyResumed,
    StudyStarted,
    StudyStopped,
    TrialAsked,
    TrialEnded,
    TrialRestarted,
)
from flowersweep.study.journal import read_events
from flowersweep.study.objectives import objective_values, rank_key

HyperbandState = dict[str, Any]  # bracket and round of a trial of KerasTuner's Hyperband


@dataclass
class TrialRecord:
    """The state of a trial."""

    number: int
    params: dict[str, Any]
    identity: str | None = None  # hash of the training; equal trainings have equal hashes
    repeats: int | None = None  # the first trial with the same identity
    seed: int | None = None  # of a repetition; without one it reuses the earlier result
    hyperband_state: HyperbandState = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  # what differs from the study's
    reports: dict[int, float] = field(default_factory=dict)  # epochs done -> objective, by segment
    curve: dict[int, float] = field(default_factory=dict)  # epochs done -> objective, every epoch
    asked_time: float = 0.0  # seconds since 1970
    epoch_ends: dict[int, float] = field(default_factory=dict)  # epochs done -> seconds since 1970
    metrics: dict[str, float] = field(default_factory=dict)  # the newest
    ended: TrialEnded | None = None
    optuna_attrs: dict[str, Any] | None = None  # Optuna's, if other trials ran meanwhile
    pruned: bool = False  # the pruner decided to stop the trial, which may not have ended yet
    progress: tuple[int, int] = (0, 0)  # in this process: epochs done, steps of the next epoch
    asked_at: int | None = None  # logical time
    worker: int | None = None  # the last one; None: the coordinator's process
    span: tuple[float, float] = (0.0, 0.0)  # first and last event, in study seconds

    def __repr__(self) -> str:
        value = "" if self.value is None else f" {self.value:.4g}"
        return f"trial {self.number}, {self.state}{value}: {self.params}"

    @property
    def state(self) -> str:
        """Complete, pruned, failed or running."""
        return self.ended.state if self.ended else "running"

    @property
    def times(self) -> list[float]:
        """The times of the suggestion and of the end of each epoch, in seconds since 1970."""
        return [self.asked_time, *self.epoch_ends.values()]

    @property
    def value(self) -> float | None:
        """The objective when the trial ended."""
        return self.ended.value if self.ended else None

    @property
    def continues(self) -> int | None:
        """The trial whose training this one continues."""
        return self.hyperband_state.get("continues")

    @property
    def reused(self) -> int | None:
        """The trial whose result this one reuses."""
        return self.repeats if self.seed is None else None


class StudyRecord:
    """The state of a study after a number of events."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._started: StudyStarted | None = None
        self.trials: list[TrialRecord] = []
        self.n_trials = 0  # of the newest command
        self.seconds = 0.0  # study seconds: the run time of all commands, without gaps
        self.resumed_at: list[float] = []  # in study seconds
        self.forecasts: list[tuple[float, ForecastMade]] = []  # each with its study seconds
        self.worker_failures: Counter[int] = Counter()  # per trial, since its last report
        self.logical_time = 0  # of the newest event
        self.models: list[ModelLogged] = []
        self.code: str | None = None  # digest of the newest training code
        self.tags: dict[str, str] = {}  # the user's, of the newest command that gave any
        self.run_name: str | None = None  # likewise: a name or a template
        self.running = False  # the newest command has not journaled its end
        self.newest = 0.0  # time of the newest event, seconds since 1970
        self._command_start = 0.0  # of the newest command, in study seconds
        # of the newest command: the first event of a trial, and the ends of trials
        self._first_news, self._ends = 0.0, list[float]()
        for event in events:
            self.apply(event)

    def __bool__(self) -> bool:
        return self._started is not None

    @property
    def started(self) -> StudyStarted:
        """The first event. Raises StudyError if there is none yet."""
        if self._started is None:
            raise StudyError("the journal holds no study yet")
        return self._started

    @property
    def objectives(self) -> list[str]:
        """The objectives; the first decides which trial is the best."""
        several: list[str] = self.started.config.get("sweep", {}).get("objectives") or []
        return several or [self.started.objective]

    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial."""
        return best_record(self.trials, *self.objectives) if self else None

    @property
    def open(self) -> list[int]:
        """The numbers of the trials that have not ended."""
        return [trial.number for trial in self.trials if trial.ended is None]

    @property
    def trials_per_minute(self) -> float | None:
        """Ended trials per minute in the newest command; None before the first end."""
        seconds = self._ends[-1] - self._first_news if self._ends else 0.0
        return 60 * len(self._ends) / seconds if seconds > 0 else None

    def forecast(self, trials: int) -> float | None:
        """Return the newest forecast for ``trials`` trials, in minutes of all commands together."""
        minutes = [event.minutes for _, event in self.forecasts if event.trials == trials]
        return minutes[-1] if minutes else None

    def apply(self, event: Event) -> None:
        """Apply the next event."""
        self.newest = event.time
        if isinstance(event, StudyStarted | StudyResumed):
            self._command_start = self.seconds - event.elapsed
            self._first_news, self._ends, self.running = 0.0, [], True
        self.seconds = self._command_start + event.elapsed
        match event:
            case StudyStarted():
                self._started, self.code = event, event.provenance.get("code")
                self.n_trials = event.config.get("sweep", {}).get("n_trials", 0)
                self.tags, self.run_name = event.tags, event.run_name
            case StudyResumed():
                self.resumed_at.append(self.seconds)
                self.n_trials, self.code = event.n_trials, event.code or self.code
                self.tags = event.tags or self.tags
                self.run_name = event.run_name or self.run_name
            case StudyStopped():
                self.running = False
            case TrialAsked():
                self.trials.append(self._new_trial(event))
                self._update_times(event.trial, event)
            case EpochsReported():
                self._add_report(self.trials[event.trial], event)
                self._update_times(event.trial, event)
            case TrialEnded():
                self._end_trial(self.trials[event.trial], event)
                self._update_times(event.trial, event)
                self._ends.append(event.time)
            case TrialRestarted():
                self.worker_failures[event.trial] += 1
            case ForecastMade():
                self.forecasts.append((self.seconds, event))
            case ModelLogged():
                self.models.append(event)

    def _update_times(self, number: int, event: TrialAsked | EpochsReported | TrialEnded) -> None:
        if event.logical_time is not None:
            self.logical_time = event.logical_time
        self._first_news = self._first_news or event.time
        trial = self.trials[number]
        trial.span = trial.span[0], self.seconds

    def _new_trial(self, event: TrialAsked) -> TrialRecord:
        trial = TrialRecord(
            event.trial,
            event.params,
            event.identity,
            event.repeats,
            event.seed,
            event.hyperband,
            event.settings,
            asked_time=event.time,
            optuna_attrs=event.attributes,
            asked_at=event.logical_time,
            span=(self.seconds, self.seconds),
        )
        if trial.continues is not None:
            trial.reports = dict(self.trials[trial.continues].reports)
        return trial

    def _add_report(self, trial: TrialRecord, event: EpochsReported) -> None:
        last = event.epochs[-1]
        trial.reports[last.epoch] = trial.curve[last.epoch] = event.value
        objective = self.started.objective
        trial.curve |= {
            e.epoch: e.metrics[objective] for e in event.epochs if objective in e.metrics
        }
        trial.epoch_ends |= {epoch.epoch: epoch.time for epoch in event.epochs}
        trial.metrics = last.metrics
        if event.attributes is not None:
            trial.optuna_attrs = event.attributes
        trial.pruned = bool(event.pruned)
        trial.worker = event.worker
        self.worker_failures.pop(trial.number, None)

    def _end_trial(self, trial: TrialRecord, event: TrialEnded) -> None:
        if trial.reused is not None:
            trial.reports = dict(self.trials[trial.reused].reports)
        trial.ended = event
        trial.metrics = event.metrics or trial.metrics


def read_study(folder: Path) -> StudyRecord:
    """Return the state of the study in ``folder``; an empty state if there is no journal.

    Raises:
        StudyError: The journal is damaged or has another format.
    """
    return StudyRecord(read_events(folder / "journal.jsonl")[0])


def ranked_records(trials: Iterable[TrialRecord], *names: str) -> list[TrialRecord]:
    """Return the complete trials, the best first.

    The first objective in ``names`` decides. The next ones decide between equals, then the trial's
    place in ``trials``.
    """
    values = {
        trial.number: objective_values(trial.value, trial.metrics, names)
        for trial in trials
        if trial.state == "complete" and trial.value is not None
    }
    complete = [trial for trial in trials if trial.number in values]
    return sorted(complete, key=lambda trial: rank_key(values[trial.number], names))


def best_record(trials: Iterable[TrialRecord], *names: str) -> TrialRecord | None:
    """Return the first of ``ranked_records``; None if no trial is complete."""
    return next(iter(ranked_records(trials, *names)), None)
