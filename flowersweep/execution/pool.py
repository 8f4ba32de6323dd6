"""Who trains the trials of a study: this process, one after the other, or a crew of workers, several at a time.

Both are given tasks and asked for answers. How workers are started and spoken to is a staff's: processes of this machine, or actors on
a Ray cluster.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from flowersweep.errors import FlowersweepError, StudyError, TrialFailed
from flowersweep.execution.runner import StartTrial, Task, TrialListener, TrialPaused, TrialRunner
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext

log = logging.getLogger(__name__)

MAX_STARTUP_FAILURES = 3  # workers in a row that may end before they are ready
POLL_INTERVAL_S = 1.0  # seconds between two looks at the budget while nothing is answered


@dataclass(frozen=True)
class Paused:
    """An answer: the trial was left where its checkpoint is, since the minutes are used up."""


@dataclass(frozen=True)
class WorkerLost:
    """An answer: the worker is gone, and with it what it had done since the checkpoint."""

    reason: str


class Executor(Protocol):
    """Where tasks are done. A trial's first is Begin, and it has one at a time."""

    slots: int  # trials at a time
    remote: bool
    compiled: dict[int, int]  # trial -> programs that workers compiled for it

    @property
    def moment(self) -> int | None:
        """When the last answer was handed over, by a count that does not depend on the clock; None: they are as they come."""

    def give(self, number: int, task: Task) -> None:
        """Have a task of a trial done."""

    def answer(self, attendant: TrialListener) -> tuple[int, Any] | None:
        """Wait for an answer: of a task, or TrialFailed, Left or Lost. None: nothing yet."""

    def release(self, number: int) -> None:
        """Say that a trial has ended."""

    def who(self, number: int) -> int | None:
        """Return the worker that has a trial, counted from 1 in the order that they were started; None: this process."""

    def leave(self) -> None:
        """Have all trials left where they can be gone on from."""


class InProcess:
    """Does tasks in this process, with the other hosts if there are any; a TPU belongs to one process."""

    slots, remote, moment = 1, False, None

    def __init__(self, workshop: TrainingContext) -> None:
        self.workshop, self.compiled = workshop, dict[int, int]()
        self._bench: TrialRunner | None = None
        self._given: tuple[int, Task]

    def give(self, number: int, task: Task) -> None:
        self._given = number, task

    def answer(self, attendant: TrialListener) -> tuple[int, Any] | None:
        number, task = self._given
        if self._bench is None or self._bench.attendant is not attendant:
            self._bench = TrialRunner(self.workshop, attendant)
        try:
            return number, self._bench.perform(task)
        except TrialFailed as failure:
            return number, failure
        except TrialPaused:
            return number, Paused()

    def release(self, number: int) -> None:
        pass

    def who(self, number: int) -> int | None:
        return None

    def leave(self) -> None:
        pass


# between coordinator and worker


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker is told first."""

    cwd: str
    path: tuple[str, ...]  # where the coordinator imports from
    cache: Path
    trusted: tuple[str, ...]


@dataclass(frozen=True)
class WorkerReady:
    """What a worker says first: what it computes on."""

    platform: str
    device_kind: str
    replicas: int


@dataclass(frozen=True)
class Progress:
    """How far a worker is with its trial."""

    epoch: int
    steps: int


@dataclass(frozen=True)
class TaskResult:
    """What a task gave, and how many programs were compiled for the trial so far."""

    answer: Any
    compiled: int


@dataclass(frozen=True)
class StopRequest:
    """To a worker: store a checkpoint and leave the trial."""


class WorkerConnection(Protocol):
    """One worker, as the coordinator sees it."""

    def send(self, message: Any) -> None:
        """Send a message; nothing happens if the worker is gone."""

    def receive(self) -> Any:
        """Return a message that has come. Raises EOFError, saying what is known, if the worker is gone."""

    def end(self) -> None:
        """Have the worker end, whatever it is doing."""


class WorkerBackend(Protocol):
    """How workers are started."""

    def start(self) -> WorkerConnection:
        """Start one more worker."""

    def ready(self, links: Sequence[Any], seconds: float) -> Sequence[WorkerConnection]:
        """Wait until there are messages, or workers are gone, and return their links."""

    def close(self) -> None:
        """Let go of what workers were started with."""

    @property
    def local(self) -> bool:
        """Whether workers share the files of this machine, and compute on its cores alone."""


class WorkerPool:
    """Workers that train a trial each. A worker that is gone is replaced, and its trial handed back as Lost."""

    remote, moment = True, None

    def __init__(self, staff: WorkerBackend, slots: int, setting: WorkerConfig) -> None:
        self.slots, self.compiled = slots, dict[int, int]()
        self.facts: WorkerReady | None = None  # what the first worker that was ready computes on, and all others must too
        self._staff, self._setting, self._stillborn, self._leaving = staff, setting, 0, False
        self._links: dict[WorkerConnection, int | None] = {}  # that are ready -> their trial
        self._starting: set[WorkerConnection] = set()
        self._numbers: dict[WorkerConnection, int] = {}
        self.local = staff.local
        self._queue: deque[tuple[int, Task]] = deque()  # trials that wait for a worker

    def __enter__(self) -> WorkerPool:
        for _ in range(self.slots):
            self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for link in [*self._links, *self._starting]:
            link.end()
        self._staff.close()

    def begun(self) -> WorkerReady:
        """Wait for a worker to be ready; return what it computes on. Raises what was wrong with it."""
        while self.facts is None:
            for link in self._staff.ready([*self._starting], POLL_INTERVAL_S):
                self._hear(link, None)
        return self.facts

    def give(self, number: int, task: Task) -> None:
        if isinstance(task, StartTrial):
            self._queue.append((number, task))
            self._assign()
        elif link := next((link for link, other in self._links.items() if other == number), None):
            link.send(task)  # if it is gone, the next answer is Lost

    def answer(self, attendant: TrialListener) -> tuple[int, Any] | None:
        for link in self._staff.ready([*self._links, *self._starting], POLL_INTERVAL_S):
            if (heard := self._hear(link, attendant)) is not None:
                return heard
        if self._leaving and self._queue:  # it was never begun here: its checkpoint is what it was
            return self._queue.popleft()[0], Paused()
        return None

    def release(self, number: int) -> None:
        for link, other in self._links.items():
            if other == number:
                self._links[link] = None
        self._assign()

    def leave(self) -> None:
        if not self._leaving:
            for link in self._links:
                link.send(StopRequest())
        self._leaving = True

    def _start(self) -> None:
        link = self._staff.start()
        link.send(self._setting)
        self._starting.add(link)
        self._numbers[link] = len(self._numbers) + 1

    def who(self, number: int) -> int | None:
        return next((self._numbers[link] for link, other in self._links.items() if other == number), None)

    def _assign(self) -> None:
        for link in [link for link, number in self._links.items() if number is None]:
            if self._queue and not self._leaving:
                self._links[link], task = self._queue.popleft()
                link.send(task)

    def _hear(self, link: WorkerConnection, attendant: TrialListener | None) -> tuple[int, Any] | None:
        """Take in one message of a worker; return the answer, if it is one."""
        try:
            message = link.receive()
        except EOFError as error:
            return self._gone(link, str(error))
        number = self._links.get(link)
        match message:
            case WorkerReady():
                self._welcome(link, message)
            case Progress(epoch, steps) if number is not None and attendant:
                attendant.passed(number, epoch, steps)
            case Checkpoint() if number is not None and attendant:
                attendant.store(number, message)
            case TaskResult(answer, compiled) if number is not None:
                self.compiled[number] = compiled
                return number, answer
            case FlowersweepError():
                raise message
            case str():  # what a bug left behind
                raise RuntimeError(f"in a worker:\n{message}")
        return None

    def _welcome(self, link: WorkerConnection, ready: WorkerReady) -> None:
        self.facts = self.facts or ready
        if (ready.platform, ready.replicas) != (self.facts.platform, self.facts.replicas):
            raise StudyError(
                f"a worker computes on {ready.replicas} x {ready.device_kind}, another on {self.facts.replicas} x "
                f"{self.facts.device_kind}: all must have the same number of the same devices"
            )
        self._starting.discard(link)
        self._links[link], self._stillborn = None, 0
        self._assign()

    def _gone(self, link: WorkerConnection, reason: str) -> tuple[int, WorkerLost] | None:
        link.end()
        self._stillborn += link in self._starting
        if self._stillborn == MAX_STARTUP_FAILURES:
            raise StudyError(
                f"{MAX_STARTUP_FAILURES} workers in a row ended before they were ready; the last: {reason}. What they said is above"
            )
        self._starting.discard(link)
        number = self._links.pop(link, None)
        log.warning("a worker is gone (%s), another one is started", reason)
        self._start()
        return None if number is None else (number, WorkerLost(reason))
