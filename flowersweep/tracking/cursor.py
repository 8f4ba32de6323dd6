"""How far a journal was shipped: a file beside it that saves work, but that nothing depends on."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from flowersweep.errors import TrackingError
from flowersweep.study import journal as journals
from flowersweep.util.files import write_bytes


@dataclass
class Cursor:
    """What is in the store: so many bytes of the journal, and which runs they made (by trial; None is the study's own)."""

    store: str
    begun: float = (
        0.0  # when the study was, by its first event: of another time it is another study
    )
    offset: int = 0  # bytes of whole events
    runs: dict[int | None, str] = field(default_factory=dict)

    def write(self, path: Path, open_: Container[int]) -> None:
        """Replace the file at ``path``. Of the runs it keeps the study's and those of the trials that are open.

        The others are rarely asked for again and would then be searched for; with them the file would grow with the study.
        """
        runs = {
            "study" if trial is None else str(trial): run
            for trial, run in self.runs.items()
            if trial is None or trial in open_
        }
        content = {"store": self.store, "begun": self.begun, "offset": self.offset, "runs": runs}
        write_bytes(path, json.dumps(content).encode(), durable=False)  # it only saves work


def read(path: Path, store: str, journal: Path) -> Cursor:
    """Return the cursor at ``path``; a fresh one if it is missing, broken, or of another store or journal."""
    try:
        stored = json.loads(path.read_text())
        runs = {
            None if trial == "study" else int(trial): str(run)
            for trial, run in stored["runs"].items()
        }
        cursor = Cursor(stored["store"], float(stored["begun"]), int(stored["offset"]), runs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Cursor(store)
    return cursor if cursor.store == store and _of(cursor, journal) else Cursor(store)


def _of(cursor: Cursor, journal: Path) -> bool:
    """Whether an event of this journal ends where the cursor stands."""
    events, _ = journals.read_events(journal, most=1)
    if (
        not events
        or events[0].time != cursor.begun
        or not 0 < cursor.offset <= journal.stat().st_size
    ):
        return False
    with journal.open("rb") as file:
        file.seek(cursor.offset - 1)
        return file.read(1) == b"\n"


def claim(folder: Path) -> IO[str]:
    """Lock ``folder`` for shipping until the returned file is closed; two shippers would each make the runs.

    Raises TrackingError if somebody else is at it.
    """
    lock = (folder / "shipped.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise TrackingError(
            f'the study "{folder.name}" is being sent to MLflow by another process, probably the '
            "one that runs it. Wait for it"
        ) from None
    return lock
