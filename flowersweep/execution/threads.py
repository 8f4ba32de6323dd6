"""Several trials at a time on threads of this process: they share features and compiled programs.

A head's step leaves a core idle between its products, and all cores while Python scores and
writes; a second trial fills that. What a sampler or a pruner sees does not depend on who is fast:
every trial has a logical time, the epochs that were trained by when it was asked for plus its own
since, and answers are handed over in that order, whenever they come. So a study that is killed and
resumed equals one that was not.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from flowersweep.errors import ConfigError
from flowersweep.execution.protocol import (
    POLL_INTERVAL_S,
    CheckpointReached,
    Evaluate,
    Handle,
    Message,
    Progress,
    StartTrial,
    Task,
    TaskDone,
    Trainer,
    TrainUntil,
)
from flowersweep.execution.runner import TrialRunner
from flowersweep.runtime import compiles_here
from flowersweep.study.records import StudyRecord


class Threads:
    """An executor of threads; a context manager that waits for them to end."""

    remote = False

    def __init__(self, trainer: Trainer, slots: int, study: StudyRecord) -> None:
        self.slots = slots
        self.logical_time = study.logical_time  # of the answer that was handed over last
        asked = {trial.number: trial.asked_at for trial in study.trials}
        self._asked = {number: at for number, at in asked.items() if at is not None}
        self._trainer, self._warm, self._first = trainer, set[Any](), threading.Lock()
        self._tasks: list[SimpleQueue[Task | None]] = [SimpleQueue() for _ in range(slots)]
        self._slot_of: dict[int, int] = {}  # trial -> its thread
        self._reached: dict[int, int] = {}  # trial -> epochs that it was asked to train
        self._due: dict[int, int] = {}  # trial -> the logical time of its next answer
        self._answers: dict[int, Message] = {}  # that have come before their turn
        self._inbox: SimpleQueue[Message | BaseException | None] = SimpleQueue()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._train, args=(tasks,), daemon=True)
            for tasks in self._tasks
        ]

    def __enter__(self) -> Threads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        for tasks in self._tasks:
            tasks.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, trial: int, task: Task) -> None:
        if isinstance(task, StartTrial):
            free = (slot for slot in range(self.slots) if slot not in self._slot_of.values())
            self._slot_of[trial] = next(free)
            self._asked.setdefault(trial, self.logical_time)
            self._reached[trial] = 0
        elif isinstance(task, TrainUntil):
            self._reached[trial] = task.epoch
        # to score a trial counts as an epoch: the others train on meanwhile
        scoring = not isinstance(task, StartTrial | TrainUntil)
        self._due[trial] = self._asked[trial] + self._reached[trial] + scoring
        self._tasks[self._slot_of[trial]].put(task)

    def receive(self, handle: Handle) -> None:
        trial = min(self._due, key=lambda number: (self._due[number], number))
        while trial not in self._answers:
            try:
                message = self._inbox.get(timeout=POLL_INTERVAL_S)
            except Empty:
                return
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, Progress | CheckpointReached):
                handle(message)
            elif message is not None:
                self._answers[message.trial] = message
        self.logical_time = max(self.logical_time, self._due.pop(trial))
        answer = self._answers.pop(trial)
        if isinstance(answer, TaskDone) and isinstance(answer.answer, int):
            self._reached[trial] = answer.answer  # it was started where its checkpoint stands
        handle(answer)

    def release(self, trial: int) -> None:
        self._slot_of.pop(trial, None)

    def worker_of(self, trial: int) -> int | None:
        return self._slot_of[trial] + 1

    def request_stop(self) -> None:
        self._stopping = True

    # on the threads

    def _train(self, tasks: SimpleQueue[Task | None]) -> None:
        runner = TrialRunner(self._trainer, self._emit, lambda: self._stopping, compiles_here)
        try:
            while (task := tasks.get()) is not None:
                self._run(runner, task)
        except BaseException as error:  # a bug or a mistake: the coordinator raises it
            self._inbox.put(error)

    def _emit(self, message: Message) -> None:
        if isinstance(message, CheckpointReached):  # the next step may reuse its buffers
            message = replace(message, checkpoint=message.checkpoint.detached())
        self._inbox.put(message)

    def _run(self, runner: TrialRunner, task: Task) -> None:
        """Do a task. One thread at a time makes what trials share, such as a program."""
        key = None
        if isinstance(task, TrainUntil | Evaluate):
            with suppress(ConfigError):  # the runner says which numbers do not go together
                key = self._trainer.compile_key(runner.spec.config), task
        with ExitStack() as alone:
            if key not in self._warm:
                alone.enter_context(self._first)
            if key in self._warm:  # another thread was first, while this one waited
                alone.close()
            runner.run(task)
        if key is not None:
            self._warm.add(key)
