"""The minutes that a study may run, over all the commands that go on with it, and those that were forecast for it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from flowersweep.config.schema import Config
from flowersweep.errors import StudyError
from flowersweep.study.journal import Event

now = time.monotonic


class BudgetUsed(StudyError):
    """The minutes of the study are used up; it goes on when it is given more."""


def seconds_used(events: Iterable[Event]) -> float:
    """Return the seconds that a study has run, by its journal; the time between two commands is not counted."""
    total, last = 0.0, 0.0
    for event in events:
        if event["event"] not in ("study", "resume"):
            total += max(0.0, event["time"] - last)  # clocks are set back
        last = event["time"]
    return total


def latest_forecast(events: Iterable[Event], trials: int) -> float | None:
    """Return the minutes of the newest forecast that was journaled for so many trials, all commands together."""
    newest = None
    for event in events:
        if event["event"] == "forecast" and event["trials"] == trials:
            newest = float(event["minutes"])
    return newest


class Clock:
    """The minutes of a study while it runs: those of earlier commands, and those since this one opened the journal."""

    def __init__(self, config: Config, events: list[Event]) -> None:
        self._earlier, self._began, self._limit = seconds_used(events), now(), config.sweep.budget.minutes

    @property
    def minutes(self) -> float:
        """Minutes used so far."""
        return (self._earlier + now() - self._began) / 60

    @property
    def over(self) -> bool:
        """Whether the budget is used up."""
        return self._limit is not None and self.minutes >= self._limit

    def require(self, ended: int, trials: int) -> None:
        """Raise BudgetUsed if no minute is left for the trials that have not ended."""
        if self.over:
            raise BudgetUsed(f"sweep.budget.minutes={self._limit:g} are used up with {ended} of {trials} trials ended; nothing is lost")
