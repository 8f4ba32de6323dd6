"""One journal on its way into one store: events are folded into changes, and each run is told its own."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING

from flowersweep.config.schema import Tracking
from flowersweep.study import journal as journals
from flowersweep.tracking import cursor, runs, store
from flowersweep.tracking.masking import masked_text
from flowersweep.tracking.projection import MlflowProjection, RunUpdate

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

AT_ONCE = (
    1 << 17
)  # bytes of the journal between two writes of the cursor, about 200 events: a long journal is never held in memory
HOUR = 3_600_000


class MlflowSink:
    """Ships a journal step by step. Every step may fail and be repeated: what arrived twice is there once."""

    into = "MLflow"

    def __init__(self, journal: Path, tracking: Tracking, dir: Path) -> None:
        store.quiet()
        self.later = f"python -m flowersweep sync study={journal.parent.name}"
        self.journal, self.tracking, self.dir = journal, tracking, dir
        self._client: MlflowClient | None = None
        self._lock: IO[str] | None = None
        self._cursor = cursor.Cursor("")
        self._fold = MlflowProjection()
        self._changes = deque[RunUpdate]()  # folded, not in the store yet
        self._folded = 0  # events since the cursor was written
        self._offset = 0  # bytes of the journal that were folded
        self._looked = False  # whether runs that the cursor does not know were searched
        self._experiment: str | None = None
        self._artifacts: dict[
            int | None, str
        ] = {}  # trial -> where the files of its run go, until they were sent

    def step(self) -> int:
        """Ship the next events and return how many; 0 when all that was journaled is in the store.

        Raises TrackingError or MlflowException when the store fails; call it again later.
        """
        client = self._client or self._open()
        if not self._changes and not self._fold_next() and not self._folded:
            return 0
        try:
            self._find_runs(client)
            while self._changes:
                self._apply(client, self._changes[0])
                self._changes.popleft()
        except Exception as error:
            self._looked = False  # a run may have been made although its answer was lost
            self._experiment = None
            if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
                log.warning(
                    "the runs of %s are gone from the store: all of it is shipped again",
                    self.journal.parent.name,
                )
                self._begin(cursor.Cursor(self._cursor.store))
            raise
        shipped, self._folded = self._folded, 0
        self._cursor.begun, self._cursor.offset = self._fold.study.time, self._offset
        self._cursor.write(self.journal.with_name("shipped.json"), self._fold.open)
        return shipped

    def close_orphaned_runs(self) -> bool:
        """Tell the runs of a study that was killed that they no longer run; say whether there were any.

        Only for a study that is shipped whole. One that a process holds is left alone: its runs are that process's.
        """
        if journals.lock_holder(self.journal.parent) is not None:
            return False
        newest = self.journal.stat().st_mtime
        changes = [
            change for change in self._fold.killed(newest) if change.trial in self._cursor.runs
        ]
        for change in changes:
            runs.write(
                self._client or self._open(),
                self._cursor.runs[change.trial],
                change,
                self._fold,
                self.journal.parent,
            )
        return bool(changes)

    def close(self) -> None:
        """Let other processes ship this journal."""
        if self._lock is not None:
            self._lock.close()
        self._client = self._lock = None

    def _open(self) -> MlflowClient:
        self._lock = self._lock or cursor.claim(self.journal.parent)
        client = store.client(self.tracking, self.dir)
        address = masked_text(client.tracking_uri)
        found = cursor.read(self.journal.with_name("shipped.json"), address, self.journal)
        if found.runs and not runs.exists(client, found.runs.get(None, "")):
            found = cursor.Cursor(address)
        self._begin(found)
        self._client = client
        return client

    def _begin(self, reached: cursor.Cursor) -> None:
        """Take up the journal behind what ``reached`` says is in the store."""
        self._cursor, self._offset = reached, 0
        self._fold, self._folded, self._looked = MlflowProjection(), 0, False
        self._changes.clear()
        while self._offset < reached.offset:
            events, self._offset = journals.read_events(
                self.journal, self._offset, min(AT_ONCE, reached.offset - self._offset)
            )
            self._fold.add(events)

    def _fold_next(self) -> bool:
        events, self._offset = journals.read_events(self.journal, self._offset, AT_ONCE)
        self._changes.extend(self._fold.add(events))
        self._folded += len(events)
        return bool(events)

    def _find_runs(self, client: MlflowClient) -> None:
        """Look for runs that a killed process, or a lost answer, left without an entry in the cursor."""
        missing = [
            change.started for change in self._changes if change.trial not in self._cursor.runs
        ]
        if self._looked or not missing:
            return
        since = (
            min(missing) - HOUR if self._cursor.offset else None
        )  # clocks are set back, but not by more
        found = runs.find(client, self._fold.study.experiment, self._fold.identity(), since)
        self._cursor.runs = found | self._cursor.runs
        self._looked = True

    def _apply(self, client: MlflowClient, change: RunUpdate) -> None:
        known = self._cursor.runs
        if change.trial not in known:
            self._experiment = self._experiment or store.experiment(
                client, self._fold.study.experiment, self.dir
            )
            made = runs.create(client, self._experiment, change, self._fold.study, known.get(None))
            known[change.trial], self._artifacts[change.trial] = (
                str(made.info.run_id),
                made.info.artifact_uri,
            )
        uri = self._artifacts.pop(change.trial, None) if change.files is not None else None
        runs.write(client, known[change.trial], change, self._fold, self.journal.parent, uri)
