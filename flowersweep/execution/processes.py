"""Workers as processes of this machine, each with its share of the cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from flowersweep.util.cores import usable_cores


class ProcessConnection:
    """A worker's process and the pipe to it, which closes when either side dies."""

    def __init__(self, cores: Sequence[int]) -> None:
        ours, theirs = Pipe()
        self.connection: Connection = ours
        words = [sys.executable, "-m", "flowersweep.execution.worker", str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs, _pinned(cores):
            self.process = subprocess.Popen(
                words,
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,
            )

    def fileno(self) -> int:
        """The pipe's, to wait for."""
        return self.connection.fileno()

    def send(self, message: Any) -> None:
        with suppress(OSError):  # it is gone: what is received next says so
            self.connection.send(message)

    def receive(self) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            raise EOFError(f"process {self.process.pid} {self._ended()}") from None

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()

    def _ended(self) -> str:
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return (
            f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        )


@contextmanager
def _pinned(cores: Sequence[int]) -> Iterator[None]:
    """Let processes that this thread starts run on these cores alone, where the system can.

    A process cannot be moved later: libraries count the cores when they are imported.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class ProcessBackend:
    """Starts workers on this machine.

    Each has as many cores as any other, since a trial may go on in another one.

    Args:
        ordered: Answers wait for their turn in logical time.
    """

    local = True

    def __init__(self, workers: int, *, ordered: bool = True) -> None:
        self.ordered = ordered
        self._shares = shares(usable_cores(), workers)
        self._next = count()
        self._taken: dict[int, ProcessConnection] = {}  # share -> who has it

    def start(self) -> ProcessConnection:
        free = next(
            n
            for n in range(len(self._shares))
            if n not in self._taken or self._taken[n].process.poll() is not None
        )
        self._taken[free] = ProcessConnection(self._shares[free])
        return self._taken[free]

    def ready(self, links: Sequence[ProcessConnection], seconds: float) -> list[ProcessConnection]:
        return wait(links, seconds)  # type: ignore[arg-type, return-value]

    def close(self) -> None:
        pass


def shares(cores: Sequence[int], workers: int) -> list[list[int]]:
    """Cut the cores into shares of the same size, one a worker.

    Where there are more workers than cores, several workers share a core.
    """
    size = max(1, len(cores) // workers)
    return [[cores[(n * size + k) % len(cores)] for k in range(size)] for n in range(workers)]
