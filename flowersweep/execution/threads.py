"""Trials beside each other in this process, on threads: they share features and compiled programs, and nothing depends on the clock.

A head's step leaves a core idle between its products, and all cores while Python scores and writes; a second trial fills that. What a
sampler or a pruner sees is kept apart from who is fast: every trial has a moment, the epochs that were trained by when it was asked for
and its own since, and answers are handed over in the order of their moments, whenever they come. So a study that is killed and gone on
with equals one that was not, as with one trial at a time.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from flowersweep.errors import TrialFailed
from flowersweep.execution.pool import POLL_INTERVAL_S, Paused
from flowersweep.execution.runner import Evaluate, StartTrial, Task, TrainUntil, TrialListener, TrialPaused, TrialRunner
from flowersweep.runtime import compiles_here
from flowersweep.study.records import StudyRecord
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext

Given = tuple[int, Task] | None  # None: there is no more


class Threads:
    """Does the tasks of so many trials at a time in this process; a context manager that waits for its threads to end."""

    remote = False

    def __init__(self, workshop: TrainingContext, slots: int, study: StudyRecord) -> None:
        self.slots, self.compiled = slots, dict[int, int]()
        self.moment = study.logical_time  # of the answer that was handed over last
        asked = {trial.number: trial.asked_at for trial in study.trials}
        self._asked = {number: at for number, at in asked.items() if at is not None}  # trial -> logical time
        self._workshop, self._warm, self._first = workshop, set[Any](), threading.Lock()
        self._given: list[SimpleQueue[Given]] = [SimpleQueue() for _ in range(slots)]
        self._holds: dict[int, int] = {}  # trial -> its thread
        self._reached: dict[int, int] = {}  # trial -> epochs that it was told to train
        self._due: dict[int, int] = {}  # trial -> the moment of its next answer
        self._answers: dict[int, Any] = {}  # that have come before their turn
        self._heard: SimpleQueue[Any] = SimpleQueue()
        self._ended = False
        self._threads = [threading.Thread(target=self._train, args=(given,), daemon=True) for given in self._given]

    def __enter__(self) -> Threads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended = True
        for given in self._given:
            given.put(None)
        at_work = self.slots
        while at_work:
            heard = self._heard.get()
            if isinstance(heard, _Call):
                heard.answer.set_exception(TrialPaused())
            at_work -= heard is None
        for thread in self._threads:
            thread.join()

    def give(self, number: int, task: Task) -> None:
        if isinstance(task, StartTrial):
            self._holds[number] = next(slot for slot in range(self.slots) if slot not in self._holds.values())
            self._asked.setdefault(number, self.moment)
            self._reached[number] = 0
        elif isinstance(task, TrainUntil):
            self._reached[number] = task.until
        # to score a trial counts as an epoch: the others train on meanwhile
        self._due[number] = self._asked[number] + self._reached[number] + (not isinstance(task, StartTrial | TrainUntil))
        self._given[self._holds[number]].put((number, task))

    def answer(self, attendant: TrialListener) -> tuple[int, Any] | None:
        number = min(self._due, key=lambda number: (self._due[number], number))
        while number not in self._answers:
            try:
                heard = self._heard.get(timeout=POLL_INTERVAL_S)
            except Empty:
                return None
            if isinstance(heard, _Call):
                heard.make(attendant)
            elif isinstance(heard, BaseException):
                raise heard
            else:
                self._answers[heard[0]] = heard[1]
        self.moment = max(self.moment, self._due.pop(number))
        answer = self._answers.pop(number)
        if isinstance(answer, int):  # begun where a checkpoint stands: if at its end, there is nothing left to advance
            self._reached[number] = answer
        return number, answer

    def release(self, number: int) -> None:
        self._holds.pop(number, None)

    def who(self, number: int) -> int | None:
        return self._holds[number] + 1

    def leave(self) -> None:
        pass  # every training asks whether it is late

    # on the threads

    def _train(self, given: SimpleQueue[Given]) -> None:
        bench = TrialRunner(self._workshop, _Relay(self))
        try:
            while (some := given.get()) is not None and not self._ended:
                number, task = some
                before = compiles_here()
                try:
                    answer = self._done(bench, task)
                except TrialFailed as failure:
                    answer = failure
                except TrialPaused:
                    answer = Paused()
                self.compiled[number] = self.compiled.get(number, 0) + compiles_here() - before
                self._heard.put((number, answer))
        except BaseException as error:  # a bug or a mistake: the coordinator raises it in its own thread
            self._heard.put(error)
        self._heard.put(None)

    def _done(self, bench: TrialRunner, task: Task) -> Any:
        """Do a task. What makes something that trials share, such as a program, is done by one thread at a time."""
        known = (self._workshop.compile_group_keys(bench.job.config), task) if isinstance(task, TrainUntil | Evaluate) else None
        with ExitStack() as alone:
            if known not in self._warm:
                alone.enter_context(self._first)
            if known in self._warm:  # somebody was first, while this thread waited
                alone.close()
            answer = bench.perform(task)
        if known:
            self._warm.add(known)
        return answer

    def call(self, name: str, *arguments: Any) -> Any:
        """Have the coordinator's thread do what its attendant is asked for; it alone writes. Raises Leaving if it has ended."""
        if self._ended:
            raise TrialPaused
        self._heard.put(call := _Call(name, arguments))
        return call.answer.result()


class _Call:
    """Something that a thread asks of the coordinator."""

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments, self.answer = name, arguments, Future[Any]()

    def make(self, attendant: TrialListener) -> None:
        try:
            self.answer.set_result(getattr(attendant, self.name)(*self.arguments))
        except BaseException:
            self.answer.set_exception(TrialPaused())
            raise


class _Relay:
    """The attendant of a thread's training: the coordinator, asked in its own thread."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    def passed(self, number: int, epoch: int, steps: int) -> None:
        self._threads.call("passed", number, epoch, steps)

    def store(self, number: int, checkpoint: Checkpoint) -> None:
        self._threads.call("store", number, checkpoint)

    def late(self) -> bool:
        return bool(self._threads.call("late"))
