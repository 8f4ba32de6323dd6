"""The journal's way into a store, off the training thread: a slow, dead or full store never slows or stops training."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError, did_you_mean
from flowersweep.study.events import Event
from flowersweep.study.journal import read_events
from flowersweep.tracking import runs, store
from flowersweep.tracking.masking import masked_text
from flowersweep.tracking.mlflow_sink import MlflowSink
from flowersweep.tracking.projection import MlflowProjection

log = logging.getLogger(__name__)

GATHER = 1.0  # seconds from the first news to shipping: short trials are shipped in one batch, and not much is left for the end
BACKLOG = (
    50  # events in one step that are more than news, so that the next step does not gather first
)
LOOK = 5.0  # seconds between two looks at a journal of which nobody said that there is more
PATIENCE = 3  # failed attempts until drain gives up
LONGEST_WAIT = 15.0  # seconds after which drain gives up at a failure: a server that hangs fails after 30, a locked database after 20
SAID_AFTER = 10.0  # seconds of waiting in drain that are worth a word
BREATH = 0.5  # seconds between two attempts at least, however urgent
LONGEST_PAUSE = 60.0
NICE = 10  # the thread's priority: it works in the gaps that training leaves


class Runs(NamedTuple):
    """The MLflow run ids of a study."""

    parent: str | None
    trials: dict[int, str]


class Sink(Protocol):
    """A journal on its way into a store. Every step may fail and be repeated: what arrived twice is there once."""

    journal: Path
    into: str  # what it is shipped into, for messages
    later: str  # how to ship what could not be shipped now

    def step(self) -> int:
        """Ship the next events and return how many; 0 when the store has all that was journaled."""

    def close(self) -> None:
        """Leave the store."""


class Shipper:
    """Ships a study's journal from a thread of its own while the context lasts; on leaving it, what is still on the way."""

    def __init__(self, way: Sink) -> None:
        self._way = way
        self._news = threading.Condition()
        self._woken, self._soon = True, False
        self._stopping = False
        self._attempts = self._failures = self._reached = (
            0  # reached: the last attempt that shipped all there was
        )
        self._drains = 0
        self._gave_up = self._ended = False
        self._troubles: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def __enter__(self) -> Shipper:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not self._gave_up:
                self.drain(None)
        finally:
            with self._news:
                self._stopping = True
                self._news.notify_all()
            self._thread.join(timeout=5)

    def wake(self, *, soon: bool = False) -> None:
        """Say that there is something new in the journal; with ``soon`` it is shipped without waiting for more."""
        with self._news:
            self._woken, self._soon = True, self._soon or soon
            self._news.notify_all()

    def drain(self, timeout: float | None) -> bool:
        """Wait until everything journaled so far is in MLflow; False if it could not be, which is logged.

        With no timeout in seconds, it gives up after three attempts that failed, or at one that took long to fail.
        """
        begun = time.monotonic()

        def over() -> bool:
            failed = self._failures - before
            late = time.monotonic() - begun > LONGEST_WAIT
            return self._reached >= mine or failed >= (1 if late else PATIENCE) or self._ended

        with self._news:
            mine, before = (
                self._attempts + 1,
                self._failures,
            )  # an attempt under way may have read too early
            self._drains += 1
            self._news.notify_all()
            try:
                if (
                    not self._news.wait_for(over, SAID_AFTER if timeout is None else timeout)
                    and timeout is None
                ):
                    # a server that hangs is waited for half a minute; a slow one as long as it takes more
                    log.warning(
                        "waiting for %s to take what is left; you may end it, nothing is lost: %s",
                        self._way.into,
                        self._way.later,
                    )
                    self._news.wait_for(over)
            finally:
                self._drains -= 1
            done = self._reached >= mine
        self._gave_up = not done
        if not done:
            log.warning(
                "not all of it is in %s yet, but nothing is lost: %s",
                self._way.into,
                self._way.later,
            )
        return done

    def _run(self) -> None:
        pause = 0.0
        if sys.platform == "linux":  # where a thread has a priority of its own: training goes first
            os.setpriority(
                os.PRIO_PROCESS,
                me := threading.get_native_id(),
                max(NICE, os.getpriority(os.PRIO_PROCESS, me)),
            )
        try:
            while self._wait(pause):
                pause = 0.0 if self._ship() else min(max(1.0, 2 * pause), LONGEST_PAUSE)
        finally:
            with self._news:
                self._ended = True
                self._news.notify_all()
            self._way.close()

    def _wait(self, pause: float) -> bool:
        """Wait for news, or out the pause after a failure; False when it is time to stop."""
        with self._news:
            if pause:
                self._news.wait_for(self._urgent, pause)
                self._news.wait_for(lambda: self._stopping, BREATH)
            else:
                self._news.wait_for(lambda: self._woken or self._urgent(), LOOK)
                self._news.wait_for(lambda: self._soon or self._urgent(), GATHER)
            self._woken = self._soon = False
            return not self._stopping

    def _urgent(self) -> bool:
        return self._stopping or self._drains > 0

    def _ship(self) -> bool:
        with self._news:
            self._attempts += 1
        try:
            while (
                (shipped := self._way.step())
                and (shipped >= BACKLOG or self._urgent())
                and not self._stopping
            ):
                pass
        except (
            Exception
        ) as error:  # whatever it is, training goes on and the journal keeps what is to be shipped
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
        """Log each kind of trouble once in an outage; with its traceback if it is none of the store's."""
        kind = f"{type(error).__name__} {getattr(error, 'error_code', '')}"
        if kind not in self._troubles:
            expected = isinstance(error, TrackingError | OSError) or hasattr(error, "error_code")
            reason = masked_text(str(error)).strip().splitlines() or [kind]
            log.warning(
                "cannot send to %s, trying again: %s",
                self._way.into,
                reason[0],
                exc_info=None if expected else error,
            )
        self._troubles.add(kind)


def sync(journal: Path, tracking: Tracking, dir: Path) -> int:
    """Ship what was not yet shipped, close the runs of a killed process, and return the number of events.

    Raises TrackingError if the store cannot take it.
    """
    _first_event(journal)
    shipment = MlflowSink(journal, tracking, dir)
    total = 0
    try:
        while shipped := shipment.step():
            total += shipped
        shipment.close_orphaned_runs()
    except OSError as error:
        raise store.unreachable(store.address(tracking, dir), error) from error
    except Exception as error:
        if not hasattr(
            error, "error_code"
        ):  # MLflow's exceptions, which are not imported before they are needed
            raise
        raise store.unreachable(store.address(tracking, dir), error) from error
    finally:
        shipment.close()
    return total


def run_ids(journal: Path, tracking: Tracking, dir: Path) -> Runs:
    """Return the MLflow runs of a study, found by their tags. Raises TrackingError if there is no such study or store."""
    from mlflow.exceptions import MlflowException

    fold = MlflowProjection()
    fold.add([_first_event(journal)])
    try:
        found = runs.find(store.client(tracking, dir), fold.study.experiment, fold.identity())
    except MlflowException as error:
        raise store.unreachable(store.address(tracking, dir), error) from error
    return Runs(
        found.get(None),
        {trial: run for trial, run in sorted(found.items(), key=str) if trial is not None},
    )


def _first_event(journal: Path) -> Event:
    """Return the first event of a journal. Raises TrackingError if there is none, naming the studies there are."""
    events, _ = read_events(journal, most=1)
    if events:
        return events[0]
    asked, folder = journal.parent.name, journal.parent.parent
    studies = did_you_mean(
        asked,
        (path.parent.name for path in folder.glob("*/journal.jsonl") if path != journal),
        "Studies",
    )
    raise TrackingError(f'no study "{asked}" in {folder}/. {studies}')
