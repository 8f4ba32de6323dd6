"""Ship one journal to one MLflow store: fold events into changes and write each to its run."""

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

# Bytes of the journal between two writes of the cursor, about 200 events. The limit keeps a long
# journal out of memory.
AT_ONCE = 1 << 17
HOUR = 3_600_000  # milliseconds


class MlflowSink:
    """Ship a journal step by step; a failed step can be repeated without double entries."""

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
        self._folded = 0  # events since the last write of the cursor
        self._offset = 0  # folded bytes of the journal
        self._looked = False  # whether the store was searched for runs missing from the cursor
        self._experiment: str | None = None
        # Trial -> address for the files of its run, until the files are sent.
        self._artifacts: dict[int | None, str] = {}

    def step(self) -> int:
        """Ship the next events and return their number; 0 if the store has the whole journal.

        Raises:
            TrackingError: The store cannot be opened; call this again later.
            MlflowException: The store fails; call this again later.
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
            self._looked = False  # the store may have created a run although its answer was lost
            self._experiment = None
            if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
                log.warning(
                    "the runs of %s are gone from the store: all of it is shipped again",
                    self.journal.parent.name,
                )
                self._begin(cursor.Cursor(self._cursor.store))
            raise
        shipped, self._folded = self._folded, 0
        self._cursor.started, self._cursor.offset = self._fold.study.time, self._offset
        self._cursor.write(self.journal.with_name("shipped.json"), self._fold.open)
        return shipped

    def close_orphaned_runs(self) -> bool:
        """Mark the runs of a killed study as ended; return whether there were any.

        Call it only when the whole journal is shipped. A study that another process holds is not
        touched: its runs belong to that process.
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
        self._lock = self._lock or cursor.lock(self.journal.parent)
        client = store.client(self.tracking, self.dir)
        address = masked_text(client.tracking_uri)
        reached = cursor.read(self.journal.with_name("shipped.json"), address, self.journal)
        if reached.runs and not runs.exists(client, reached.runs.get(None, "")):
            reached = cursor.Cursor(address)
        self._begin(reached)
        self._client = client
        return client

    def _begin(self, reached: cursor.Cursor) -> None:
        """Continue the journal after the part that the store has according to ``reached``."""
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
        """Search for runs that lack a cursor entry: a process was killed or an answer was lost."""
        missing = [
            change.started for change in self._changes if change.trial not in self._cursor.runs
        ]
        if self._looked or not missing:
            return
        # Clocks are sometimes set back, but by less than an hour.
        since = min(missing) - HOUR if self._cursor.offset else None
        study, identity = self._fold.study, self._fold.identity()
        run_ids = runs.find(client, study.experiment, identity, since, deleted=True)
        self._cursor.runs = run_ids | self._cursor.runs
        self._looked = True

    def _apply(self, client: MlflowClient, change: RunUpdate) -> None:
        run_ids = self._cursor.runs
        if change.trial not in run_ids:
            self._experiment = self._experiment or store.experiment(
                client, self._fold.study.experiment, self.dir
            )
            run = runs.create(client, self._experiment, change, self._fold.study, run_ids.get(None))
            run_ids[change.trial] = str(run.info.run_id)
            store.require_local(str(run.info.artifact_uri), client.tracking_uri)
            self._artifacts[change.trial] = run.info.artifact_uri
        uri = self._artifacts.pop(change.trial, None) if change.files is not None else None
        runs.write(client, run_ids[change.trial], change, self._fold, self.journal.parent, uri)
