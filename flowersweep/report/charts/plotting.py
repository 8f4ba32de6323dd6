"""Parts of plotly.js figures as plain data, so that nothing heavy is imported.

The page sets the colours of text and grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from flowersweep.report.study_view import StudyView
from flowersweep.study.records import TrialRecord
from flowersweep.util.text import number

Figure = dict[str, Any]
Trace = dict[str, Any]

# middle tones, readable on light and dark; shapes say the same as colours
COLOURS = {
    "complete": "#2b7bd6",
    "pruned": "#8f959c",
    "failed": "#d6455d",
    "running": "#2f9e6e",
    "best": "#e07b00",
}
SYMBOLS = {
    "complete": "circle",
    "pruned": "x-thin-open",
    "failed": "triangle-up",
    "running": "circle-open",
}
LOG = {"type": "log", "nticks": 5, "tickformat": "~g"}
STATES = ("pruned", "failed", "running", "complete")  # the later is drawn over the earlier


@dataclass(frozen=True)
class Chart:
    """A figure with the name that a screen reader says, and a sentence below it for everybody."""

    kind: ClassVar[str] = "chart"
    name: str
    figure: Figure
    label: str
    note: str = ""

    @property
    def id(self) -> str:
        """The chart's id on the page."""
        return f"chart-{self.name}"


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis of a figure."""
    return {"title": {"text": title, "standoff": 10}, "automargin": True, "zeroline": False, **more}


def value_axis(study: StudyView) -> dict[str, Any]:
    """Return the axis of the objective: logarithmic for likelihoods that differ by much."""
    values = [r.value for r in study.records if r.value is not None]
    wide = bool(values) and study.objective.endswith("nll") and 0 < min(values) * 4 < max(values)
    return axis(study.objective, **(LOG if wide else {}))


def scatter(x: Sequence[Any], y: Sequence[Any], **more: Any) -> Trace:
    """Return a trace of points or lines."""
    return {"type": "scatter", "x": [*x], "y": [*y], **more}


def state_trace(
    state: str, x: Sequence[Any], y: Sequence[Any], text: Sequence[str], **more: Any
) -> Trace:
    """Return the points of trials that ended in one way."""
    size = 8 if len(x) <= 200 else 5
    marker = {
        "color": COLOURS[state],
        "symbol": SYMBOLS[state],
        "size": size,
        "opacity": 0.9,
        "line": {"width": 1.5, "color": COLOURS[state]},
    }
    return scatter(
        x,
        y,
        mode="markers",
        name=state,
        text=[*text],
        hovertemplate="%{text}<extra></extra>",
        marker=marker,
        **more,
    )


def best_marker(best: TrialRecord, x: Any) -> Trace:
    """Return the mark of the best trial."""
    marker = {"symbol": "star", "size": 15, "color": COLOURS["best"]}
    text = f"best: trial {best.number}, {best.value:.4g}<extra></extra>"
    return scatter(
        [x], [best.value], mode="markers", name="best", marker=marker, hovertemplate=text
    )


def hover_text(record: TrialRecord) -> str:
    """Return what is shown when a trial is pointed at."""
    value = "" if record.value is None else f" {record.value:.4g}"
    params = [f"{name} {number(each)}" for name, each in record.params.items()]
    return "<br>".join([f"trial {record.number}, {record.state}{value}", *params])


def conditions(when: Mapping[str, Iterable[Any]]) -> str:
    """Say on which values a parameter depends."""
    return " and ".join(
        f"{name} is {' or '.join(map(str, values))}" for name, values in when.items()
    )
