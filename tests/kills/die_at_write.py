"""Run a sweep that kills itself with SIGKILL while it writes: ``die_at_write.py event|checkpoint
NUMBER SHARE WORDS...``.

NUMBER counts what this process writes of that kind, from 1. Of an event, SHARE of the line's bytes
reach the disk first; of a checkpoint the whole file if SHARE is 1, else a half-written one beside
it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from flowersweep.__main__ import main
from flowersweep.study.journal import Journal
from flowersweep.training.checkpoint import Checkpoint


def die_at(kind: str, number: int, share: float) -> None:
    """Have this process die in the ``number``-th writing of a kind."""
    write, save, written = Journal._write, Checkpoint.save, 0

    def last(before: Callable[[], None]) -> None:
        """Count one writing; if it is the one to die in, write what reaches the disk before, and
        die.
        """
        nonlocal written
        written += 1
        if written == number:
            before()
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_write(self: Journal, line: bytes) -> None:
        last(lambda: write(self, line[: int(len(line) * share)]))
        write(self, line)

    def dying_save(self: Checkpoint, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        last(
            lambda: (
                save(self, path)
                if share == 1
                else path.with_suffix(".partial").write_bytes(b"half")
            )
        )  # type: ignore[func-returns-value]
        save(self, path)

    if kind == "event":
        Journal._write = dying_write  # type: ignore[method-assign]
    else:
        Checkpoint.save = dying_save  # type: ignore[method-assign]


if __name__ == "__main__":
    die_at(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    sys.exit(main(sys.argv[4:]))
