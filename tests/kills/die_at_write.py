"""Run a sweep that kills itself with SIGKILL while it writes: ``die_at_write.py
event|checkpoint|upload NUMBER SHARE WORDS...``.

NUMBER counts what this process writes of that kind, from 1. Of an event, SHARE of the line's bytes
reach the disk first; of a checkpoint the whole file if SHARE is 1, else a half-written one beside
it. An upload is an object for a bucket that is a folder: the whole object if SHARE is 1, else
nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from flowersweep.__main__ import main
from flowersweep.bucket.store import Folder
from flowersweep.study.journal import Journal
from flowersweep.training.checkpoint import Checkpoint


def die_at(kind: str, number: int, share: float) -> None:
    """Have this process die in the ``number``-th writing of a kind."""
    write, save, written = Journal._write, Checkpoint.save, 0
    send, upload = Folder.write, Folder.upload

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

    def dying_send(self: Folder, key: str, content: bytes) -> None:
        last(lambda: send(self, key, content) if share == 1 else None)
        send(self, key, content)

    def dying_upload(self: Folder, key: str, file: IO[bytes], on_chunk: Callable[[], None]) -> None:
        last(lambda: upload(self, key, file, on_chunk) if share == 1 else None)
        upload(self, key, file, on_chunk)

    if kind == "upload":
        Folder.write, Folder.upload = dying_send, dying_upload  # type: ignore[method-assign]
    elif kind == "event":
        Journal._write = dying_write  # type: ignore[method-assign]
    else:
        Checkpoint.save = dying_save  # type: ignore[method-assign]


if __name__ == "__main__":
    die_at(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    sys.exit(main(sys.argv[4:]))
