"""What the page asks of a study: notes, to stop, a trial of one's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntDistribution,
)

from flowersweep.errors import StudyError
from flowersweep.report.study_view import load_study
from flowersweep.space.transforms import is_inside
from flowersweep.study.journal import lock_holder
from flowersweep.study.notes import write_notes
from flowersweep.study.requests import ADD_TRIAL, STOP_STUDY, STOP_TRIAL, Request, write_request


def keep_notes(study: Path, fields: Mapping[str, Any]) -> str:
    """Replace the notes of a study."""
    write_notes(study, str(fields.get("text", "")))
    return "The notes are kept."


def stop_study(study: Path) -> str:
    """Ask the loop to start no further trial."""
    _require_running(study)
    write_request(study, Request(STOP_STUDY))
    return "The study stops after the trials in flight. The same command goes on with it."


def stop_trial(study: Path, number: int) -> str:
    """Ask the loop to end a trial after its next report."""
    _require_running(study)
    trials = load_study(study).records
    if number >= len(trials) or trials[number].ended is not None:
        raise StudyError(f"trial {number} is not in flight")
    write_request(study, Request(STOP_TRIAL, trial=number))
    return f"Trial {number} stops after its next report."


def add_trial(study: Path, fields: Mapping[str, Any]) -> str:
    """Ask the loop to try a point next.

    Raises:
        StudyError: A value is no value of its parameter. What depends on other parameters is
            checked by the loop.
    """
    parameters = {p.name: p.distribution for p in load_study(study).parameters}
    if unknown := sorted(set(fields) - set(parameters)):
        raise StudyError(f"{unknown[0]} is not searched. Parameters: {', '.join(parameters)}")
    params = {
        name: _value(name, parameters[name], str(text)) for name, text in fields.items() if text
    }
    if not params:
        raise StudyError("the point is empty: give a value for each parameter")
    write_request(study, Request(ADD_TRIAL, params=params))
    if lock_holder(study) is None:
        return "Kept: it is tried first when the study goes on."
    return "It is the next trial."


def _value(name: str, distribution: BaseDistribution, text: str) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        options = {str(choice): choice for choice in distribution.choices}
        if text not in options:
            raise StudyError(f"{name}={text}: must be one of {', '.join(options)}")
        return options[text]
    try:
        number = int(text) if isinstance(distribution, IntDistribution) else float(text)
    except ValueError as error:
        raise StudyError(f"{name}={text}: must be a number") from error
    if not math.isfinite(number) or not is_inside(distribution, number):
        low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
        raise StudyError(f"{name}={text}: must be from {low:g} to {high:g}")
    return number


def _require_running(study: Path) -> None:
    if lock_holder(study) is None:
        raise StudyError("the study is not running")
