"""Ship a journal from its own thread: a slow, dead or full store never stops training."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Protocol

from flowersweep.config.schema import Tracking
from flowersweep.errors import FlowersweepError, TrackingError, did_you_mean
from flowersweep.study.events import Event
from flowersweep.study.journal import read_events
from flowersweep.tracking import runs, store
from flowersweep.tracking.masking import masked_text
from flowersweep.tracking.mlflow_sink import MlflowSink
from flowersweep.tracking.projection import MlflowProjection

log = logging.getLogger(__name__)

# Seconds from the first new event to shipping: short trials go in one batch, and little remains for
# the end.
GATHER = 1.0
BACKLOG = 50  # events; after a step of this size the next one starts without gathering
LOOK = 5.0  # seconds between two checks of the journal when nobody calls wake
PATIENCE = 3  # failed attempts after which drain gives up
# Seconds after which drain gives up at the first failure. A hanging server fails after 30 s, a
# locked database after 20 s.
LONGEST_WAIT = 15.0
SAID_AFTER = 10.0  # seconds of waiting after which drain logs a message
BREATH = 0.5  # shortest time in seconds between two attempts, even if urgent
LONGEST_PAUSE = 60.0  # seconds
NICE = 10  # the thread's priority, below training


class Runs(NamedTuple):
    """The MLflow run ids of a study."""

    parent: str | None
    trials: dict[int, str]


class Sink(Protocol):
    """Where a journal is shipped; a failed step can be repeated without double entries."""

    journal: Path
    into: str  # name of the store, for messages

    @property
    def later(self) -> str:
        """Say which command ships the rest later."""

    def step(self) -> int:
        """Ship the next events and return their number; 0 if the store has the whole journal."""

    def close(self) -> None:
        """Disconnect from the store."""


class Shipper:
    """Ship a study's journal from its own thread while the context lasts.

    Leaving the context ships the rest.
    """

    def __init__(self, way: Sink, *, gather: float = GATHER) -> None:
        """Ship to ``way``, ``gather`` seconds after the first new event."""
        self._way, self._gather = way, gather
        self._news = threading.Condition()
        self._woken, self._soon = True, False
        self._stopping = False
        self._attempts = self._failures = 0
        self._reached = 0  # the last attempt that shipped everything
        self._drains = 0
        self._gave_up = self._ended = False
        self._troubles: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)
        self._waited_for = False  # the thread has the priority of whoever waits for it

    def __enter__(self) -> Shipper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._gave_up:
                self.drain(None)
        finally:
            with self._news:
                self._stopping = True
                self._news.notify_all()
            self._thread.join(timeout=5)

    def wake(self, *, soon: bool = False) -> None:
        """Announce new events in the journal; with ``soon``, ship them without waiting for more."""
        with self._news:
            self._woken, self._soon = True, self._soon or soon
            self._news.notify_all()

    def drain(self, timeout: float | None) -> bool:
        """Wait until the store has everything journaled so far.

        Args:
            timeout: Seconds; None waits until three attempts failed, or one took long to fail.

        Returns:
            False if the store lacks something, which is also logged.
        """
        start = time.monotonic()

        def is_over() -> bool:
            failed = self._failures - earlier_failures
            late = time.monotonic() - start > LONGEST_WAIT
            return self._reached >= target or failed >= (1 if late else PATIENCE) or self._ended

        with self._news:
            # The next attempt counts: the current one may have read the journal too early.
            target, earlier_failures = self._attempts + 1, self._failures
            self._drains += 1
            self._hurry()
            self._news.notify_all()
            into, later = self._way.into, self._way.later
            try:
                over = self._news.wait_for(is_over, SAID_AFTER if timeout is None else timeout)
                if not over and timeout is None:
                    # Wait half a minute for a hanging server; a slow one may take any time.
                    log.warning(
                        "waiting for %s to take what is left; you may end it, nothing is lost: %s",
                        into,
                        later,
                    )
                    self._news.wait_for(is_over)
            finally:
                self._drains -= 1
            done = self._reached >= target
        self._gave_up = not done
        if not done:
            log.warning("not all of it is in %s yet, but nothing is lost: %s", into, later)
        return done

    def _hurry(self) -> None:
        """Go on in a thread of normal priority: nothing trains while the command waits.

        A user may lower the priority of a thread, but not raise it again.
        """
        if not self._waited_for and self._thread.is_alive():
            self._waited_for = True
            self._thread = threading.Thread(
                target=self._run, args=(self._thread,), name="shipper", daemon=True
            )
            self._thread.start()

    def _run(self, predecessor: threading.Thread | None = None) -> None:
        pause = 0.0
        if predecessor is not None:
            predecessor.join()
        elif sys.platform == "linux":  # only on Linux a thread has its own priority
            me = threading.get_native_id()
            priority = max(NICE, os.getpriority(os.PRIO_PROCESS, me))
            os.setpriority(os.PRIO_PROCESS, me, priority)
        try:
            while self._wait(pause) and not self._replaced():
                pause = 0.0 if self._ship() else min(max(1.0, 2 * pause), LONGEST_PAUSE)
        finally:
            if not self._replaced():
                with self._news:
                    self._ended = True
                    self._news.notify_all()
                self._way.close()

    def _replaced(self) -> bool:
        return self._thread is not threading.current_thread()

    def _wait(self, pause: float) -> bool:
        """Wait for news, or for the pause after a failure to end; return False to stop."""
        with self._news:
            if pause:
                self._news.wait_for(self._urgent, pause)
                self._news.wait_for(lambda: self._stopping, BREATH)
            else:
                self._news.wait_for(lambda: self._woken or self._urgent(), LOOK)
                self._news.wait_for(lambda: self._soon or self._urgent(), self._gather)
            self._woken = self._soon = False
            return not self._stopping

    def _urgent(self) -> bool:
        return self._stopping or self._drains > 0

    def _ship(self) -> bool:
        with self._news:
            self._attempts += 1
        try:
            shipped = self._way.step()
            while shipped and (shipped >= BACKLOG or self._urgent()) and not self._stopping:
                if self._replaced():
                    return True
                shipped = self._way.step()
        # Any exception: training continues and the journal keeps the events.
        except Exception as error:
            self._complain(error)
            with self._news:
                self._failures += 1
                self._news.notify_all()
            return False
        if self._troubles:
            log.info("%s takes what it is sent again", self._way.into)
        with self._news:
            self._troubles.clear()
            if not shipped:
                self._reached = self._attempts
            self._news.notify_all()
        return True

    def _complain(self, error: Exception) -> None:
        """Log each kind of error once per outage; add a traceback if it is not the store's."""
        kind = f"{type(error).__name__} {getattr(error, 'error_code', '')}"
        if kind not in self._troubles:
            expected = isinstance(error, FlowersweepError | OSError) or hasattr(error, "error_code")
            reason = masked_text(str(error)).strip().splitlines() or [kind]
            log.warning(
                "cannot send to %s, trying again: %s",
                self._way.into,
                reason[0],
                exc_info=None if expected else error,
            )
        self._troubles.add(kind)


def sync(journal: Path, tracking: Tracking, dir: Path) -> int:
    """Ship the rest of a journal, end the runs of a killed process, and return the event count.

    Raises:
        TrackingError: There is no such study, or the store does not answer or refuses.
    """
    _first_event(journal)
    shipment = MlflowSink(journal, tracking, dir)
    total = 0
    with store.answering(store.address(tracking, dir)), closing(shipment):
        while shipped := shipment.step():
            total += shipped
        shipment.close_orphaned_runs()
    return total


def run_ids(journal: Path, tracking: Tracking, dir: Path) -> Runs:
    """Return the MLflow run ids of a study, found by tags.

    Raises:
        TrackingError: There is no such study, or the store does not answer.
    """
    fold = MlflowProjection()
    fold.add([_first_event(journal)])
    with store.connected(tracking, dir) as client:
        ids = runs.find(client, fold.study.experiment, fold.identity())
    return Runs(
        ids.get(None),
        {trial: run for trial, run in sorted(ids.items(), key=str) if trial is not None},
    )


def _first_event(journal: Path) -> Event:
    """Return the first event of a journal.

    Raises:
        TrackingError: There is none; the message names the existing studies.
    """
    events, _ = read_events(journal, most=1)
    if events:
        return events[0]
    name, folder = journal.parent.name, journal.parent.parent
    studies = did_you_mean(
        name,
        (path.parent.name for path in folder.glob("*/journal.jsonl") if path != journal),
        "Studies",
    )
    raise TrackingError(f'no study "{name}" in {folder}/. {studies}')
