"""Act on what a user asks of a study while it runs.

The event is journaled first. A trial stops after a report, whose epoch the event names: a resumed
study stops it there too. A point that was added by hand is the next one that is asked for.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flowersweep.space.space import Params, Space
from flowersweep.space.transforms import is_inside
from flowersweep.study.events import StopRequested, TrialAdded
from flowersweep.study.records import TrialRecord
from flowersweep.study.requests import (
    ADD_TRIAL,
    STOP_STUDY,
    STOP_TRIAL,
    Request,
    waiting_requests,
)

if TYPE_CHECKING:
    from flowersweep.search.state import Study

log = logging.getLogger(__name__)

STOPPED = "stopped by hand; nothing is lost"


class UserRequests:
    """Takes the requests of one study. One to stop an earlier command is dropped."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self.stop = False  # start no further trial
        for path, request in waiting_requests(study.folder):
            if request is None or request.kind == STOP_STUDY:
                path.unlink(missing_ok=True)

    def take(self, current: TrialRecord | None = None) -> None:
        """Act on the requests; those to stop another trial wait for that trial.

        Args:
            current: The trial that is between two segments now.
        """
        for path, request in waiting_requests(self._study.folder):
            match request:
                case Request(kind=kind) if kind == STOP_STUDY:
                    self._study.write(StopRequested())
                    self.stop = True
                case Request(kind=kind, trial=int(trial)) if kind == STOP_TRIAL:
                    if not self._stop_trial(trial, current):
                        continue
                case Request(kind=kind, params=params) if kind == ADD_TRIAL:
                    self._add_trial(path.stem, params)
            path.unlink(missing_ok=True)

    def _stop_trial(self, number: int, current: TrialRecord | None) -> bool:
        """Stop the current trial here; return whether the request is done with."""
        trials = self._study.trials
        if not 0 <= number < len(trials) or trials[number].ended is not None:
            return True
        if current is None or current.number != number or not current.reports:
            return False
        if current.stop_epoch is None:
            self._study.write(StopRequested(trial=number, epoch=max(current.reports)))
        return True

    def _add_trial(self, name: str, params: dict[str, Any]) -> None:
        if name in self._study.record.added:  # killed before its file was removed
            return
        refused = refusal(self._study, params)
        if refused:
            log.warning("a trial that was added by hand is left out: %s", refused)
        self._study.write(TrialAdded(params=params, request=name, refused=refused))


def refusal(study: Study, params: Params) -> str | None:
    """Say why a point cannot be a trial of a study; None if it can."""
    space = study.source
    if not isinstance(space, Space) or study.config.engine != "optuna":
        return "this study takes its points from elsewhere"
    known = {parameter.name for parameter in space.parameters}
    if unknown := sorted(set(params) - known):
        return f"{unknown[0]} is not searched"
    point = space.fill_active(lambda parameter: params.get(parameter.name))
    for parameter in space.parameters:
        active = parameter.active({**space.fixed, **point})
        if active and parameter.name not in params:
            return f"{parameter.name} is missing"
        if not active and parameter.name in params:
            return f"{parameter.name} is not active at this point"
        if active and not is_inside(parameter.distribution, params[parameter.name]):
            return f"{parameter.name} is outside its range"
    return None if space.feasible(params) else "it does not meet sweep.constraints"
