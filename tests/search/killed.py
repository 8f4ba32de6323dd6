"""Run a sweep that kills itself with SIGKILL while it writes a given event: ``killed.py EVENT SHARE WORDS...``.

EVENT counts the events that this process writes, from 1; SHARE of the line's bytes reach the disk first (1: the whole line).
"""

from __future__ import annotations

import os
import signal
import sys

from flowersweep.__main__ import main
from flowersweep.journal import Journal

event, share, words = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
write, written = Journal._write, 0


def dying(self: Journal, line: bytes) -> None:
    global written
    written += 1
    if written == event:
        write(self, line[: int(len(line) * share)])
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, line)


Journal._write = dying  # type: ignore[method-assign]
sys.exit(main(words))
