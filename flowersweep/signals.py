"""A polite end, by Ctrl-C, SIGTERM or a closed terminal, that cannot be lost.

Python drops an exception that a signal raises inside a library's callback, and does not listen to a
signal that the shell that started it ignores, as shells do for what runs in the background.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked: int | None = None  # the signal that asked for an end


def install_handlers() -> None:
    """Have the signals raise KeyboardInterrupt, in this process and from now on.

    A closed terminal (SIGHUP) ends nothing that ``nohup`` has started.
    """
    global _asked
    _asked = None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _end)


@contextmanager
def handlers() -> Iterator[None]:
    """Within it the signals raise KeyboardInterrupt; afterwards they do what they did before.

    A signal that would have ended the process ends it then, after what was begun is closed. Only
    the main thread can listen: within another thread nothing changes.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {int(number): signal.getsignal(number) for number in ends}
    install_handlers()
    try:
        yield
    finally:
        asked, _asked = _asked, None
        for number, handler in before.items():
            if handler is not None:  # not installed by Python
                signal.signal(number, handler)
        if asked is not None and asked != signal.SIGINT and before[asked] == signal.SIG_DFL:
            signal.raise_signal(asked)


@contextmanager
def preserve_sigterm() -> Iterator[None]:
    """Within it a library may listen to SIGTERM in its own way; afterwards it is listened to as
    before.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if an end was asked for and nobody has heeded it."""
    if _asked is not None:
        raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = number
    raise KeyboardInterrupt
