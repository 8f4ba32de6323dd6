"""Several trials at a time on threads of this process: they share features and compiled programs.

A head's step leaves a core idle between its products, and all cores while Python scores and
writes; a second trial fills that. What a sampler or a pruner sees does not depend on which thread
is fast: see `LogicalOrder`.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any

from flowersweep.errors import ConfigError
from flowersweep.execution.logical_order import LogicalOrder
from flowersweep.execution.protocol import (
    POLL_INTERVAL_S,
    CheckpointReached,
    Evaluate,
    Handle,
    Message,
    Progress,
    StartTrial,
    Task,
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
        self.slots, self._order = slots, LogicalOrder(study)
        self._trainer, self._warm, self._first = trainer, set[Any](), threading.Lock()
        self._tasks: list[SimpleQueue[Task | None]] = [SimpleQueue() for _ in range(slots)]
        self._slot_of: dict[int, int] = {}  # trial -> its thread
        self._inbox: SimpleQueue[Message | BaseException] = SimpleQueue()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._train, args=(tasks,), daemon=True)
            for tasks in self._tasks
        ]

    @property
    def logical_time(self) -> int:
        return self._order.time

    def __enter__(self) -> Threads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        for tasks in self._tasks:
            tasks.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, trial: int, task: Task) -> None:
        if isinstance(task, StartTrial):
            free = (slot for slot in range(self.slots) if slot not in self._slot_of.values())
            self._slot_of[trial] = next(free)
        self._order.expect(trial, task)
        self._tasks[self._slot_of[trial]].put(task)

    def receive(self, handle: Handle) -> None:
        while (answer := self._order.next()) is None:
            try:
                message = self._inbox.get(timeout=POLL_INTERVAL_S)
            except Empty:
                return
            if isinstance(message, BaseException):
                raise message
            if isinstance(message, Progress | CheckpointReached):
                handle(message)
            else:
                self._order.add(message)
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
