"""The loop of a study over its flights, the trials in training: who is given what, what is answered, and workers that are lost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import optuna

from flowersweep import signals
from flowersweep.errors import TrialFailed
from flowersweep.execution.pool import Paused, WorkerLost
from flowersweep.runtime import compiles
from flowersweep.search.state import Study, Turns
from flowersweep.study import events
from flowersweep.study.clock import BudgetUsed
from flowersweep.study.records import TrialRecord

MAX_WORKER_FAILURES = 3  # of workers since it last reported, after which the trial that they had counts as their cause


@dataclass
class RunningTrial:
    """A trial that somebody trains."""

    record: TrialRecord
    trial: optuna.Trial
    turns: Turns
    fresh: bool  # whether it began in this process
    begun: float  # minutes used when it did
    compiled: int  # programs that this process had compiled then


class TrialLoop:
    """The trials of a study that somebody trains, and those that wait for their results."""

    def __init__(self, study: Study) -> None:
        self.study, self.does = study, study.does
        self.aloft: dict[int, RunningTrial] = {}
        self.held: defaultdict[int, list[tuple[TrialRecord, optuna.Trial]]] = defaultdict(list)  # trial -> those that wait for its result
        self.planned = study.config.sweep.n_trials
        self.forecast = study.record.forecast(self.planned)
        self.stopped: str | None = None  # why it ended before its last trial
        self.compiled: dict[int, int] = {}  # trial -> programs compiled while it ran

    def run(self) -> None:
        """Run trials until there are ``sweep.n_trials`` or the minutes are used up, going on with those that were interrupted."""
        waiting = iter(self.study.remaining)
        try:
            while True:
                while len(self.aloft) < self.does.slots and not (self.aloft and self.study.clock.over):
                    if (number := next(waiting, None)) is None:
                        break
                    self.study.clock.require(self.study.ended, self.planned)
                    signals.raise_if_interrupted()
                    self._begin(number)
                if not self.aloft:
                    break
                self._turn()
            if self.study.remaining:
                self.study.clock.require(self.study.ended, self.planned)
        except BudgetUsed as used:
            self.stopped = str(used)

    def _begin(self, number: int) -> None:
        record, trial = self.study.ask(number)
        if record.reused is None:
            self.fly(record, trial)
        elif self.study.trials[record.reused].ended is not None:
            self.study.reuse(record, trial)
        else:
            self.held[record.reused].append((record, trial))

    def evaluate(self, record: TrialRecord, trial: optuna.Trial) -> None:
        """Run one trial to its end."""
        self.fly(record, trial)
        while record.number in self.aloft:
            self._turn()

    def fly(self, record: TrialRecord, trial: optuna.Trial) -> None:
        """Have a trial taken up where it stands."""
        turns, minutes = self.study.tasks(record, trial), self.study.clock.minutes
        self.aloft[record.number] = RunningTrial(record, trial, turns, not record.reports, minutes, compiles())
        self._send(record.number, None)

    def _turn(self) -> None:
        """Wait for an answer, and act on it; nothing may have been answered yet."""
        if self.study.clock.over:
            self.does.leave()
        answered = self.does.answer(self.study)
        signals.raise_if_interrupted()
        match answered:
            case (number, Paused()):
                del self.aloft[number]
            case (number, WorkerLost(reason)):
                self._lost(self.aloft[number], reason)
            case (number, answer):
                self._send(number, answer)

    def _send(self, number: int, answer: Any) -> None:
        """Go on with a trial that has its answer, up to its next task or its end."""
        flight = self.aloft[number]
        try:
            self.does.give(number, flight.turns.throw(answer) if isinstance(answer, TrialFailed) else flight.turns.send(answer))
            return
        except StopIteration:
            pass
        except TrialFailed as failure:
            self.study.tell(flight.record, flight.trial, "failed", reason=str(failure))
        self._landed(flight)

    def _lost(self, flight: RunningTrial, reason: str) -> None:
        """Have a trial whose worker is gone taken up by another, as after a restart; unless it is the trial that kills them."""
        number = flight.record.number
        self.study.write(events.WorkerLost(trial=number, reason=reason))
        if self.study.deaths[number] < MAX_WORKER_FAILURES:
            self.fly(flight.record, flight.trial)
            return
        self.study.tell(flight.record, flight.trial, "failed", reason=f"its worker was lost {MAX_WORKER_FAILURES} times; the last {reason}")
        self._landed(flight)

    def _landed(self, flight: RunningTrial) -> None:
        number = flight.record.number
        del self.aloft[number]
        self.does.release(number)
        self.compiled[number] = self.does.compiled.pop(number, compiles() - flight.compiled)
        if self.compiled[number]:
            self.study.write(events.ProgramsCompiled(trial=number, programs=self.compiled[number]))
        for record, trial in self.held.pop(number, []):
            self.study.reuse(record, trial)
        # the first trial compiles, a pruned one is short
        if self.forecast is None and flight.fresh and number >= self.does.slots and flight.record.state == "complete":
            left = (self.planned - self.study.ended) / self.does.slots
            self.foretell(self.study.clock.minutes + (self.study.clock.minutes - flight.begun) * left)

    def foretell(self, minutes: float) -> None:
        """Journal how many minutes the study is expected to take, all in all."""
        self.forecast = round(minutes, 3)
        self.study.write(events.ForecastMade(minutes=self.forecast, trials=self.planned))
