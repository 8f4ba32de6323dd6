"""One filter over all charts and tables of a study: by state, values and ranges."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.distributions import CategoricalDistribution

from flowersweep.report.page import Field, Form
from flowersweep.report.study_view import StudyView
from flowersweep.study.records import TrialRecord

STATES = ("complete", "pruned", "failed", "running")
ANY = "(any)"
OBJECTIVE = "objective"


@dataclass(frozen=True)
class Filter:
    """Which trials are shown; empty for all."""

    states: frozenset[str] = frozenset()
    choices: Mapping[str, str] = field(default_factory=dict)  # parameter -> value as text
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.states or self.choices or self.ranges)

    def shows(self, record: TrialRecord) -> bool:
        """Return whether a trial passes. One without a parameter does not pass its filter."""
        if self.states and record.state not in self.states:
            return False
        if any(str(record.params.get(name)) != value for name, value in self.choices.items()):
            return False
        return all(_within(record, name, ends) for name, ends in self.ranges.items())


def _within(record: TrialRecord, name: str, ends: tuple[float, float]) -> bool:
    value = record.value if name == OBJECTIVE else record.params.get(name)
    return isinstance(value, int | float) and ends[0] <= value <= ends[1]


def read_filter(study: StudyView, words: Mapping[str, Sequence[str]]) -> Filter:
    """Read the filter of an address; what means nothing is left out."""
    states = frozenset(words.get("state", ())) & frozenset(STATES)
    choices: dict[str, str] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for name, options in _searched(study).items():
        if options is not None:
            value = next(iter(words.get(name, ())), ANY)
            choices |= {name: value} if value in options else {}
        else:
            low, high = (_number(words.get(f"{name}.{end}", ())) for end in ("min", "max"))
            if low is not None or high is not None:
                low, high = -math.inf if low is None else low, math.inf if high is None else high
                ranges[name] = (low, high)
    return Filter(states, choices, ranges)


def filtered(study: StudyView, chosen: Filter) -> StudyView:
    """Return the study with the trials that a filter shows."""
    if not chosen:
        return study
    record = copy.copy(study.record)
    record.trials = [trial for trial in study.records if chosen.shows(trial)]
    return replace(study, record=record)


def filter_form(study: StudyView, chosen: Filter) -> Form:
    """Return the form of the filter, with what is chosen now."""
    fields = [Field("state", "State", options=STATES, several=True, chosen=[*chosen.states])]
    for name, options in _searched(study).items():
        label = study.objective if name == OBJECTIVE else name
        if options is not None:
            value = chosen.choices.get(name, ANY)
            fields.append(Field(name, label, value, options=[ANY, *options]))
            continue
        for end, at in zip(("min", "max"), chosen.ranges.get(name, (None, None)), strict=True):
            shown = "" if at is None or math.isinf(at) else f"{at:g}"
            words = f"{label}, {'from' if end == 'min' else 'to'}"
            fields.append(Field(f"{name}.{end}", words, shown, number=True))
    label = "Filter (active)" if chosen else "Filter"
    return Form("filter", label, fields, "Show these trials", open=bool(chosen))


def _searched(study: StudyView) -> dict[str, list[str] | None]:
    """Return what can be filtered by: options as text, or None for a range of numbers."""
    kinds: dict[str, list[str] | None] = {OBJECTIVE: None}
    for parameter in study.parameters:
        ranged: Any = parameter.distribution
        options = isinstance(ranged, CategoricalDistribution)
        kinds[parameter.name] = [str(choice) for choice in ranged.choices] if options else None
    return kinds


def _number(words: Sequence[str]) -> float | None:
    try:
        return float(words[0]) if words and words[0] else None
    except ValueError:
        return None
