"""A worker: a process that does tasks of trials for a coordinator elsewhere, and ends when the coordinator does."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from flowersweep.errors import FlowersweepError, TrialFailed
from flowersweep.execution.pool import Paused, Progress, StopRequest, TaskResult, WorkerConfig, WorkerReady
from flowersweep.execution.runner import StartTrial, TrialPaused, TrialRunner
from flowersweep.runtime import compiles, start
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext

Receive = Callable[[], Any]  # waits for a message; raises EOFError when there will be none
Send = Callable[[Any], None]


class RemoteListener:
    """Tells a coordinator elsewhere of a training, and hands it the checkpoints."""

    def __init__(self, send: Send) -> None:
        self.asked_to_leave = threading.Event()
        self._send, self._told = send, time.monotonic()

    def passed(self, number: int, epoch: int, steps: int) -> None:
        if time.monotonic() - self._told > 1:
            self._send(Progress(epoch, steps))
            self._told = time.monotonic()

    def store(self, number: int, checkpoint: Checkpoint) -> None:
        self._send(checkpoint.detached())

    def late(self) -> bool:
        return self.asked_to_leave.is_set()


def serve(receive: Receive, send: Send) -> None:
    """Do what the messages say; what cannot be mended here is sent to the coordinator, which raises it.

    A thread of its own listens, so that this process ends with the coordinator in the middle of an epoch too.
    """
    inbox: queue.Queue[Any] = queue.Queue()
    away = RemoteListener(send)

    def listen() -> None:
        while True:
            try:
                message = receive()
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, StopRequest):
                away.asked_to_leave.set()
            inbox.put(message)

    threading.Thread(target=listen, name="listener", daemon=True).start()
    try:
        _work(inbox, send, away)
    except FlowersweepError as error:
        send(error)
    except BaseException:
        send(traceback.format_exc())
    threading.Event().wait()  # for the coordinator, which has the last word


def _work(inbox: queue.Queue[Any], send: Send, away: RemoteListener) -> None:
    setting: WorkerConfig = inbox.get()
    if os.path.isdir(setting.cwd):  # on another machine it need not be
        os.chdir(setting.cwd)
    sys.path += [path for path in setting.path if path not in sys.path]
    runtime = start(setting.cache / "compiled")
    bench = TrialRunner(TrainingContext(runtime, setting.cache, lambda what, done, total: None, setting.trusted), away)
    send(WorkerReady(runtime.platform, runtime.device_kind, runtime.replicas))
    before = compiles()
    while True:
        task = inbox.get()
        if isinstance(task, StopRequest):
            continue
        before = compiles() if isinstance(task, StartTrial) else before
        try:
            answer = bench.perform(task)
        except TrialFailed as failure:
            answer = failure
        except TrialPaused:
            answer = Paused()
        send(TaskResult(_plain(answer), compiles() - before))


def _plain(answer: Any) -> Any:
    """The answer off the device."""
    match answer:
        case (result, Checkpoint() as trained):
            return result, trained.detached()
    return answer


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal: the coordinator decides
    connection = Connection(int(sys.argv[1]))
    serve(connection.recv, connection.send)
