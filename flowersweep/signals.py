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

_asked = False


def install_handlers() -> None:
    """Have the signals raise KeyboardInterrupt, in this process and from now on.

    A closed terminal (SIGHUP) ends nothing that ``nohup`` has started.
    """
    global _asked
    _asked = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _end)


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
    if _asked:
        raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt
