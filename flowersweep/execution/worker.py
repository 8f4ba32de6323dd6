"""A worker: a process that trains trials for a coordinator elsewhere, and ends when it does."""

from __future__ import annotations

import importlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from flowersweep.errors import FlowersweepError
from flowersweep.execution.protocol import (
    POLL_INTERVAL_S,
    CheckpointReached,
    Evaluation,
    Message,
    Progress,
    StopRequest,
    TaskDone,
    WorkerConfig,
)
from flowersweep.execution.runner import TrialRunner

Receive = Callable[[], Any]  # waits for a message; raises EOFError when there will be none
Send = Callable[[Any], None]


def serve(receive: Receive, send: Send) -> None:
    """Do what the messages say. What cannot be mended here is sent to the coordinator.

    A thread of its own listens, so that this process ends with the coordinator in the middle of an
    epoch too.
    """
    inbox: queue.Queue[Any] = queue.Queue()
    stopping = threading.Event()

    def listen() -> None:
        while True:
            try:
                message = receive()
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, StopRequest):
                stopping.set()
            else:
                inbox.put(message)

    threading.Thread(target=listen, name="listener", daemon=True).start()
    try:
        _work(inbox, _Emitter(send), send, stopping)
    except FlowersweepError as error:
        send(error)
    except BaseException:
        send(traceback.format_exc())
    threading.Event().wait()  # for the coordinator, which has the last word


class _Emitter:
    """Sends messages off the device, and progress once a second."""

    def __init__(self, send: Send) -> None:
        self._send, self._last_progress = send, time.monotonic()

    def __call__(self, message: Message) -> None:
        match message:
            case Progress():
                if time.monotonic() - self._last_progress < POLL_INTERVAL_S:
                    return
                self._last_progress = time.monotonic()
            case CheckpointReached(checkpoint=checkpoint):
                message = replace(message, checkpoint=checkpoint.detached())
            case TaskDone(answer=Evaluation() as evaluation):
                evaluation = replace(evaluation, network=evaluation.network.detached())
                message = replace(message, answer=evaluation)
        self._send(message)


def _work(inbox: queue.Queue[Any], emit: _Emitter, send: Send, stopping: threading.Event) -> None:
    config: WorkerConfig = inbox.get()
    if os.path.isdir(config.cwd):  # on another machine it need not be
        os.chdir(config.cwd)
    sys.path += [path for path in config.path if path not in sys.path]
    module, _, function = config.trainer.partition(":")
    trainer, ready = getattr(importlib.import_module(module), function)(*config.arguments)
    runner = TrialRunner(trainer, emit, stopping.is_set)
    send(ready)
    while True:
        runner.run(inbox.get())


if __name__ == "__main__":
    # Ctrl-C goes to all processes of a terminal: the coordinator decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    serve(connection.recv, connection.send)
