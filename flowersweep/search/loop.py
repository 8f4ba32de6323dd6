"""The loop of a study: start trials, receive messages, advance each trial."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import optuna

from flowersweep import signals
from flowersweep.errors import ConfigError, TrialFailed
from flowersweep.execution.protocol import (
    CheckpointReached,
    Message,
    Paused,
    Progress,
    TaskDone,
    TaskFailed,
    WorkerLost,
)
from flowersweep.search.state import Study
from flowersweep.search.work import TrialSteps, TrialWork
from flowersweep.study import events
from flowersweep.study.clock import BudgetUsed
from flowersweep.study.records import TrialRecord

MAX_WORKER_FAILURES = 3  # since its last report; the trial itself is then the likely cause


@dataclass
class RunningTrial:
    """A trial that the executor runs."""

    record: TrialRecord
    trial: optuna.Trial
    steps: TrialSteps
    fresh: bool  # it started in this process
    started: float  # minutes that the study had run by then
    programs: int = 0  # XLA programs compiled for it in this process


class TrialLoop:
    """Runs the trials of a study."""

    def __init__(self, study: Study, work: TrialWork) -> None:
        self.study, self.executor, self.work = study, study.executor, work
        self.running: dict[int, RunningTrial] = {}
        # trial -> the trials that wait for its result
        self.waiting: defaultdict[int, list[tuple[TrialRecord, optuna.Trial]]] = defaultdict(list)
        self.planned = study.config.sweep.n_trials
        self.forecast = study.record.forecast(self.planned)
        self.stopped: str | None = None  # why the study stopped early
        self.compiled: dict[int, int] = {}  # trial -> programs compiled while it ran

    def run(self) -> None:
        """Run trials until ``sweep.n_trials`` have ended or the budget is used up."""
        numbers = self.study.remaining
        try:
            while True:
                while len(self.running) < self.executor.slots and not (
                    self.running and self.study.clock.over
                ):
                    if (number := next(numbers, None)) is None:
                        break
                    self.study.clock.require(self.study.ended, self.planned)
                    signals.raise_if_interrupted()
                    self._ask_and_start(number)
                if not self.running:
                    break
                self._receive()
            if next(self.study.remaining, None) is not None:
                self.study.clock.require(self.study.ended, self.planned)
        except BudgetUsed as used:
            self.stopped = str(used)

    def _ask_and_start(self, number: int) -> None:
        record, trial = self.study.ask(number)
        if record.reused is None:
            self._start(record, trial)
        elif self.study.trials[record.reused].ended is not None:
            self.study.reuse_result(record, trial)
        else:
            self.waiting[record.reused].append((record, trial))

    def _start(self, record: TrialRecord, trial: optuna.Trial) -> None:
        steps, minutes = self.work.steps(self.study, record, trial), self.study.clock.minutes
        running = RunningTrial(record, trial, steps, not record.reports, minutes)
        self.running[record.number] = running
        self._advance(running, None)

    def _receive(self) -> None:
        if self.study.clock.over:
            self.executor.request_stop()
        self.executor.receive(self._handle)
        signals.raise_if_interrupted()

    def _handle(self, message: Message) -> None:
        signals.raise_if_interrupted()
        running = self.running[message.trial]
        match message:
            case Progress(_, epoch, steps):
                self.study.on_progress(running.record, epoch, steps)
                if self.study.clock.over:
                    self.executor.request_stop()
            case CheckpointReached(_, checkpoint):
                self.study.trial_store.save_checkpoint(running.record, checkpoint)
            case TaskDone(_, answer, programs):
                running.programs = programs
                self._advance(running, answer)
            case TaskFailed(_, reason, programs):
                running.programs = programs
                self._fail(running, reason)
            case Paused(trial):
                del self.running[trial]
            case WorkerLost(_, reason):
                self._on_worker_lost(running, reason)

    def _advance(self, running: RunningTrial, answer: Any) -> None:
        """Submit the next task of a trial, or end the trial."""
        try:
            task = running.steps.send(answer)
        except StopIteration:
            self._on_trial_done(running)
        # The numbers of this trial do not go together: the others do not need it.
        except (TrialFailed, ConfigError) as failure:
            self._fail(running, str(failure))
        else:
            self.executor.submit(running.record.number, task)

    def _fail(self, running: RunningTrial, reason: str) -> None:
        self.study.end_trial(running.record, running.trial, "failed", reason=reason)
        self._on_trial_done(running)

    def _on_worker_lost(self, running: RunningTrial, reason: str) -> None:
        """Start the trial again; fail it if it has lost too many workers."""
        number = running.record.number
        self.study.write(events.TrialRestarted(trial=number, reason=reason))
        if self.study.record.worker_failures[number] < MAX_WORKER_FAILURES:
            self._start(running.record, running.trial)
        else:
            times = f"its worker was lost {MAX_WORKER_FAILURES} times"
            self._fail(running, f"{times}; the last {reason}")

    def _on_trial_done(self, running: RunningTrial) -> None:
        number = running.record.number
        del self.running[number]
        self.executor.release(number)
        self.compiled[number] = running.programs
        if running.programs:
            self.study.write(events.ProgramsCompiled(trial=number, programs=running.programs))
        for record, trial in self.waiting.pop(number, []):
            self.study.reuse_result(record, trial)
        # no forecast from the first trials, which compile, or from a pruned trial, which is short
        whole = running.fresh and running.record.state == "complete"
        if self.forecast is None and whole and number >= self.executor.slots:
            used = self.study.clock.minutes
            rounds = (self.planned - self.study.ended) / self.executor.slots
            self.record_forecast(used + (used - running.started) * rounds)

    def record_forecast(self, minutes: float) -> None:
        """Journal the expected minutes of the whole study."""
        self.forecast = round(minutes, 3)
        self.study.write(events.ForecastMade(minutes=self.forecast, trials=self.planned))
