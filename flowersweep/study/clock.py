"""The minutes that a study may run, all its commands together."""

from __future__ import annotations

import time

from flowersweep.errors import StudyError

now = time.monotonic


class BudgetUsed(StudyError):
    """The minutes of the study are used up. A later command with more minutes continues it."""


class Clock:
    """Counts the minutes of a study: those of earlier commands and of this one.

    Args:
        seconds: How long earlier commands have run.
        limit: The budget in minutes; None for no limit.
    """

    def __init__(self, seconds: float, limit: float | None) -> None:
        self._earlier, self._began, self._limit = seconds, now(), limit

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
            raise BudgetUsed(
                f"sweep.budget.minutes={self._limit:g} are used up with {ended} of {trials} trials "
                "ended; nothing is lost"
            )
