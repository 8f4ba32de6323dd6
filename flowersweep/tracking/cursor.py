"""How far a journal was shipped: a file in the study's folder. Losing it costs only time."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from flowersweep.errors import TrackingError
from flowersweep.study import journal as journals
from flowersweep.util.files import write_bytes
from flowersweep.util.locks import take_lock


@dataclass
class Cursor:
    """What the store has: a number of bytes of the journal, and the runs made from them."""

    store: str
    started: float = 0.0  # time of the study's first event; it tells studies of one name apart
    offset: int = 0  # bytes of whole events
    runs: dict[int | None, str] = field(default_factory=dict)  # by trial; None: the study's own

    def write(self, path: Path, open_: Container[int]) -> None:
        """Replace the file at ``path``.

        The file has only the runs of the study and of open trials, so it stays small. The sink
        searches the store for another run in the rare case that it needs one.
        """
        runs = {
            "study" if trial is None else str(trial): run
            for trial, run in self.runs.items()
            if trial is None or trial in open_
        }
        content = {
            "store": self.store,
            "started": self.started,
            "offset": self.offset,
            "runs": runs,
        }
        write_bytes(path, json.dumps(content).encode(), durable=False)  # it only saves work


def read(path: Path, store: str, journal: Path) -> Cursor:
    """Return the cursor at ``path``.

    Returns a new cursor if the file is missing or broken, or is about another store or journal.
    """
    try:
        stored = json.loads(path.read_text())
        runs = {
            None if trial == "study" else int(trial): str(run)
            for trial, run in stored["runs"].items()
        }
        cursor = Cursor(stored["store"], float(stored["started"]), int(stored["offset"]), runs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Cursor(store)
    return cursor if cursor.store == store and _of(cursor, journal) else Cursor(store)


def _of(cursor: Cursor, journal: Path) -> bool:
    """Return whether the cursor is at the end of an event of this journal."""
    events, _ = journals.read_events(journal, most=1)
    if (
        not events
        or events[0].time != cursor.started
        or not 0 < cursor.offset <= journal.stat().st_size
    ):
        return False
    with journal.open("rb") as file:
        file.seek(cursor.offset - 1)
        return file.read(1) == b"\n"


def lock(folder: Path) -> IO[str]:
    """Lock ``folder`` for shipping until the caller closes the returned file.

    Without the lock two shippers would create every run twice.

    Raises:
        TrackingError: Another process has the lock, or the folder cannot be written.
    """
    try:
        file = (folder / "shipped.lock").open("a")
    except OSError as error:
        raise TrackingError(f"cannot write into {folder}: {error.strerror}") from error
    if not take_lock(file):
        file.close()
        raise TrackingError(
            f'the study "{folder.name}" is being sent to MLflow by another process, probably the '
            "one that runs it. Wait for it"
        )
    return file
