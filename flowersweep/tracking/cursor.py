"""How far a journal was shipped: a file beside it that saves work, but that nothing depends on."""

from __future__ import annotations

import fcntl
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from flowersweep.errors import TrackingError


@dataclass
class Cursor:
    """What is in the store: so many events, and which runs they made (by trial; None is the study's own)."""

    store: str
    events: int = 0
    offset: int = 0  # bytes of the journal when this was written: a shorter one is another journal
    runs: dict[int | None, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Replace the file at ``path``."""
        runs = {"study" if trial is None else str(trial): run for trial, run in self.runs.items()}
        elsewhere = path.with_name(f"{path.name}.new")
        elsewhere.write_text(json.dumps({"store": self.store, "events": self.events, "offset": self.offset, "runs": runs}))
        elsewhere.replace(path)


def read(path: Path, store: str, length: int) -> Cursor:
    """Return the cursor at ``path``; a fresh one if it is missing, broken, or of another store or a longer journal."""
    try:
        stored = json.loads(path.read_text())
        runs = {None if trial == "study" else int(trial): str(run) for trial, run in stored["runs"].items()}
        cursor = Cursor(stored["store"], int(stored["events"]), int(stored["offset"]), runs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Cursor(store)
    return cursor if cursor.store == store and cursor.offset <= length else Cursor(store)


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
            f'the study "{folder.name}" is being sent to MLflow by another process, probably the one that runs it. Wait for it'
        ) from None
    return lock
