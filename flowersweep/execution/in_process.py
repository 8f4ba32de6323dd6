"""Trials one after the other in this process: a TPU belongs to one process."""

from __future__ import annotations

from flowersweep.execution.protocol import Handle, Message, Task, Trainer
from flowersweep.execution.runner import TrialRunner


class InProcess:
    """Does tasks in this process, together with the other hosts if there are any."""

    slots, remote, logical_time = 1, False, None

    def __init__(self, trainer: Trainer) -> None:
        self._runner = TrialRunner(trainer, self._emit, lambda: self._stopping)
        self._task: Task
        self._handle: Handle
        self._stopping = False

    def submit(self, trial: int, task: Task) -> None:
        self._task = task

    def receive(self, handle: Handle) -> None:
        self._handle = handle
        self._runner.run(self._task)

    def release(self, trial: int) -> None:
        pass

    def worker_of(self, trial: int) -> int | None:
        return None

    def request_stop(self) -> None:
        self._stopping = True

    def _emit(self, message: Message) -> None:
        self._handle(message)
