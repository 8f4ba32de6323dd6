"""Workers that train a trial each: processes of this machine, or actors on a Ray cluster.

A backend starts workers; the pool hands them trials and replaces those that are gone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from flowersweep.errors import FlowersweepError, StudyError
from flowersweep.execution.logical_order import LogicalOrder
from flowersweep.execution.protocol import (
    POLL_INTERVAL_S,
    CheckpointReached,
    Handle,
    Message,
    Paused,
    Progress,
    StartTrial,
    StopRequest,
    Task,
    TaskDone,
    TaskFailed,
    WorkerConfig,
    WorkerLost,
    WorkerReady,
)

log = logging.getLogger(__name__)

MAX_STARTUP_FAILURES = 3  # workers in a row that may end before they are ready


class WorkerConnection(Protocol):
    """One worker, as the coordinator sees it."""

    def send(self, message: Any) -> None:
        """Send a message; nothing happens if the worker is gone."""

    def receive(self) -> Any:
        """Return a message that has come. Raises EOFError with the reason if the worker is gone."""

    def end(self) -> None:
        """End the worker, whatever it is doing."""


class WorkerBackend(Protocol):
    """How workers are started."""

    def start(self) -> WorkerConnection:
        """Start one more worker."""

    def ready(self, connections: Sequence[Any], seconds: float) -> Sequence[WorkerConnection]:
        """Wait until there are messages or workers are gone; return their connections."""

    def close(self) -> None:
        """Release what workers were started with."""

    @property
    def local(self) -> bool:
        """Whether workers share the files and the cores of this machine."""

    @property
    def ordered(self) -> bool:
        """Whether answers wait for their turn in logical time, so that a study repeats exactly.

        There must then be room for all workers, because an answer waits for trials without one.
        """


class WorkerPool:
    """An executor of workers. A worker that is gone is replaced, and its trial is `WorkerLost`.

    Args:
        slots: Trials at a time.
        workers: How many start, if fewer trials are left than there are slots.
        order: Of the answers; None: they are handed over as they come.
    """

    remote = True

    def __init__(
        self,
        backend: WorkerBackend,
        slots: int,
        config: WorkerConfig,
        *,
        workers: int | None = None,
        order: LogicalOrder | None = None,
    ) -> None:
        self.slots, self.local, self._order = slots, backend.local, order
        self._workers = slots if workers is None else workers
        self.facts: WorkerReady | None = None  # of the first worker; all others must have the same
        self._backend, self._config = backend, config
        self._startup_failures, self._stopping = 0, False
        self._trials: dict[WorkerConnection, int | None] = {}  # of the workers that are ready
        self._starting: set[WorkerConnection] = set()
        self._numbers: dict[WorkerConnection, int] = {}
        self._queue: deque[tuple[int, Task]] = deque()  # trials that wait for a worker

    @property
    def logical_time(self) -> int | None:
        return None if self._order is None else self._order.time

    def __enter__(self) -> WorkerPool:
        for _ in range(self._workers):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for connection in [*self._trials, *self._starting]:
            connection.end()
        self._backend.close()

    def wait_until_ready(self) -> WorkerReady:
        """Wait for a worker; return what it computes on. Raises what was wrong with it."""
        while self.facts is None:
            for connection in self._backend.ready([*self._starting], POLL_INTERVAL_S):
                self._take(connection)
        return self.facts

    def submit(self, trial: int, task: Task) -> None:
        if self._order is not None:
            self._order.expect(trial, task)
        if isinstance(task, StartTrial):
            self._queue.append((trial, task))
            self._assign()
        elif (connection := self._connection_of(trial)) is not None:
            connection.send(task)  # if it is gone, the next message is WorkerLost

    def receive(self, handle: Handle) -> None:
        if not self._hand_over_next(handle):
            self._receive(handle)
            self._hand_over_next(handle)

    def _receive(self, handle: Handle) -> None:
        for connection in self._backend.ready([*self._trials, *self._starting], POLL_INTERVAL_S):
            if (message := self._take(connection)) is not None:
                self._sort(message, handle)
        while self._stopping and self._queue:  # never started here: the checkpoint is what it was
            self._sort(Paused(self._queue.popleft()[0]), handle)

    def _sort(self, message: Message, handle: Handle) -> None:
        """Pass a message on, or have an answer wait for its turn."""
        if self._order is None or isinstance(message, Progress | CheckpointReached):
            handle(message)
        elif isinstance(message, WorkerLost):
            self._order.forget(message.trial)
            handle(message)
        else:
            self._order.add(message)

    def _hand_over_next(self, handle: Handle) -> bool:
        """Pass on one answer, if it is its turn; a new trial may be asked for before the next."""
        answer = None if self._order is None else self._order.next()
        if answer is not None:
            handle(answer)
        return answer is not None

    def release(self, trial: int) -> None:
        if (connection := self._connection_of(trial)) is not None:
            self._trials[connection] = None
        self._assign()

    def worker_of(self, trial: int) -> int | None:
        connection = self._connection_of(trial)
        return None if connection is None else self._numbers[connection]

    def request_stop(self) -> None:
        if not self._stopping:
            for connection in self._trials:
                connection.send(StopRequest())
        self._stopping = True

    def _connection_of(self, trial: int) -> WorkerConnection | None:
        return next(
            (connection for connection, number in self._trials.items() if number == trial), None
        )

    def _start(self) -> None:
        connection = self._backend.start()
        connection.send(self._config)
        self._starting.add(connection)
        self._numbers[connection] = len(self._numbers) + 1

    def _assign(self) -> None:
        for connection in [idle for idle, number in self._trials.items() if number is None]:
            if self._queue and not self._stopping:
                self._trials[connection], task = self._queue.popleft()
                connection.send(task)

    def _take(self, connection: WorkerConnection) -> Message | None:
        """Take one message of a worker; return it if it is about the trial that the worker has."""
        try:
            message = connection.receive()
        except EOFError as error:
            return self._replace(connection, str(error))
        match message:
            case WorkerReady():
                self._welcome(connection, message)
            case Progress() | CheckpointReached() | TaskDone() | TaskFailed() | Paused():
                return message if message.trial == self._trials.get(connection) else None
            case FlowersweepError():
                raise message
            case str():  # the traceback of a bug
                raise RuntimeError(f"in a worker:\n{message}")
        return None

    def _welcome(self, connection: WorkerConnection, ready: WorkerReady) -> None:
        self.facts = self.facts or ready
        if (ready.platform, ready.replicas) != (self.facts.platform, self.facts.replicas):
            raise StudyError(
                f"a worker computes on {ready.replicas} x {ready.device_kind}, another on "
                f"{self.facts.replicas} x {self.facts.device_kind}: all must have the same number "
                "of the same devices"
            )
        self._starting.discard(connection)
        self._trials[connection], self._startup_failures = None, 0
        self._assign()

    def _replace(self, connection: WorkerConnection, reason: str) -> WorkerLost | None:
        connection.end()
        self._startup_failures += connection in self._starting
        if self._startup_failures == MAX_STARTUP_FAILURES:
            raise StudyError(
                f"{MAX_STARTUP_FAILURES} workers in a row ended before they were ready; the "
                f"last: {reason}. What they said is above"
            )
        self._starting.discard(connection)
        trial = self._trials.pop(connection, None)
        log.warning("a worker is gone (%s), another one is started", reason)
        self._start()
        return None if trial is None else WorkerLost(trial, reason)
