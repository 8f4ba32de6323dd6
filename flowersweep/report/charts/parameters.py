"""Charts of several parameters at once: all of them side by side, and two as a map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

from flowersweep.report.charts.plotting import (
    COLOURS,
    LOG,
    STATES,
    Chart,
    Trace,
    axis,
    best_marker,
    conditions,
    hover_text,
    scatter,
    state_trace,
)
from flowersweep.report.checks.audit import unit_position
from flowersweep.report.study_view import StudyView
from flowersweep.report.summary import StudySummary
from flowersweep.space.space import Parameter
from flowersweep.study.records import TrialRecord

GRID = 30  # cells of the map along each side
GOOD_TO_BAD = [[0, "#2b7bd6"], [0.5, "#86aedb"], [1, "#c3c9d1"]]
INK = {
    "complete": "#ffffff",
    "running": "#ffffff",
    "failed": "#d6455d",
    "pruned": "#4b5561",
}  # of dots on coloured ground
MOST_BOLD = 30  # of the lines through all parameters; more would be a surface
WIDTH = 0.12  # of the kernel that smooths the map, as a share of a range


def parallel(study: StudyView) -> Chart | None:
    """Return one line a trial through its active parameters, to its rank.

    Returns:
        None for fewer than two complete trials or parameters.
    """
    if len(study.complete) < 2 or len(study.parameters) < 2:
        return None
    names = [*(p.name for p in study.parameters), "rank"]
    ticks = {
        "tickmode": "array",
        "tickvals": [*range(len(names))],
        "ticktext": names,
        "range": [-0.4, len(names) - 0.6],
    }
    layout = {
        "xaxis": axis("", **ticks),
        "yaxis": axis("", visible=False, range=[-0.12, 1.12]),
        "height": 420,
        "annotations": [*_ends(study)],
    }
    broken = any(p.when for p in study.parameters)
    note = "A line has no dot where a parameter was not active in the trial." if broken else ""
    states = [record.state for record in study.drawn]
    return Chart(
        "parallel",
        {"data": _lines(study), "layout": layout},
        f"{states.count('complete')} complete and {states.count('pruned')} pruned trials",
        f"{note} {study.sampled}".strip(),
    )


def _lines(study: StudyView) -> list[Trace]:
    """Return the lines of the drawn trials, those of the best above the others."""
    ranked = study.complete
    rank = {r.number: 1 - n / (len(ranked) - 1) for n, r in enumerate(ranked)}
    shown = {r.number for r in study.drawn}
    drawn = [r for r in ranked if r.number in shown]
    pruned = [r for r in study.drawn if r.state == "pruned"]
    tenth = max(1, round(len(ranked) / 10))
    few = min(tenth, MOST_BOLD)
    best = "best tenth" if few == tenth else f"best {few}"
    parts = (
        ("pruned", pruned, COLOURS["pruned"], 0.15, 1),
        ("complete", drawn[few:], COLOURS["complete"], 0.4, 1),
        (best, drawn[few - 1 :: -1], COLOURS["best"], 0.95, 2.5),
    )
    end = len(study.parameters)
    return [
        _line(
            [[*_places(study, r), (end, rank.get(r.number)), (None, None)] for r in chosen],
            name=name,
            line={"color": colour, "width": width},
            opacity=opacity,
        )
        for name, chosen, colour, opacity, width in parts
        if chosen
    ]


def _line(trials: Sequence[Sequence[tuple[int | None, float | None]]], **more: Any) -> Trace:
    """Return the lines of several trials as one trace."""
    x, y = zip(*(point for trial in trials for point in trial), strict=True)
    mode, marker = "lines+markers", {"size": 4}
    return scatter(x, y, mode=mode, marker=marker, hoverinfo="skip", **more)


def _places(study: StudyView, record: TrialRecord) -> list[tuple[int, float | None]]:
    return [
        (n, _place(p, record.params[p.name]))
        for n, p in enumerate(study.parameters)
        if p.name in record.params
    ]


def _place(parameter: Parameter, value: Any) -> float | None:
    ranged = parameter.distribution
    if isinstance(ranged, CategoricalDistribution):
        return (
            ranged.choices.index(value) / max(len(ranged.choices) - 1, 1)
            if value in ranged.choices
            else None
        )
    return unit_position(parameter, value)


def _ends(study: StudyView) -> Iterable[dict[str, Any]]:
    """Yield what stands at the ends of each upright axis."""
    for x, parameter in enumerate(study.parameters):
        ranged = parameter.distribution
        if isinstance(ranged, CategoricalDistribution):
            marks = [(_place(parameter, choice), str(choice)) for choice in ranged.choices]
        else:
            marks = [(0.0, f"{ranged.low:.3g}"), (1.0, f"{ranged.high:.3g}")]  # type: ignore[attr-defined]
        yield from (_mark(x, y or 0.0, text) for y, text in marks)
    yield from (
        _mark(len(study.parameters), y, text) for y, text in ((0.0, "worst"), (1.0, "best"))
    )


def _mark(x: int, y: float, text: str) -> dict[str, Any]:
    shift = 12 if y > 0.99 else -12 if y < 0.01 else 0
    short = text if len(text) <= 12 else text[:11] + "…"
    return {
        "x": x,
        "y": y,
        "text": short,
        "showarrow": False,
        "yshift": shift,
        "font": {"size": 11},
    }


def contour(summary: StudySummary) -> Chart | None:
    """Return the smoothed objective over two numbers that are often active together.

    Of all such pairs it is the most important one.
    """
    chosen = _pair(summary)
    if chosen is None:
        return None
    (first, second), study = chosen, summary.study
    axes = [axis(p.name, **(LOG if _log(p) else {})) for p in (first, second)]
    layout = {"xaxis": axes[0] | {"tickangle": -40}, "yaxis": axes[1], "height": 420}
    only = {**first.when, **second.when}
    note = "Smoothed over near trials; empty where none are near." + (
        f" Only where {conditions(only)}." if only else ""
    )
    return Chart(
        "contour",
        {"data": [_map(study, first, second), *_dots(study, first, second)], "layout": layout},
        f"{study.objective} over {first.name} and {second.name}",
        note,
    )


def _active(study: StudyView, first: Parameter, second: Parameter) -> list[TrialRecord]:
    """Return the trials that have a value of the objective and of both parameters."""
    both = {first.name, second.name}
    return [r for r in study.records if both <= r.params.keys() and r.value is not None]


def _map(study: StudyView, first: Parameter, second: Parameter) -> Trace:
    """Return the smoothed objective as coloured ground."""
    trials = _active(study, first, second)
    at = np.array(
        [[unit_position(p, r.params[p.name]) or 0.0 for p in (first, second)] for r in trials]
    )
    values = np.array([r.value for r in trials], float)
    return {
        "type": "contour",
        "x": _scale(first),
        "y": _scale(second),
        "z": _smoothed(at, values),
        "colorscale": GOOD_TO_BAD,
        "reversescale": study.started.direction != "minimize",
        "opacity": 0.7,
        **_levels(values, study),
        "line": {"width": 0.5, "color": COLOURS["pruned"]},
        "colorbar": {"thickness": 10, "outlinewidth": 0, "tickformat": ".3~g"},
        "hovertemplate": f"about %{{z:.4g}}<extra>{study.objective}</extra>",
    }


def _dots(study: StudyView, first: Parameter, second: Parameter) -> list[Trace]:
    """Return the drawn trials by state, and the best one."""
    numbers = {r.number for r in _active(study, first, second)}
    outline = {"width": 1.2, "color": "#10233a"}
    traces: list[Trace] = []
    for state in STATES:
        some = [r for r in study.drawn if r.state == state and r.number in numbers]
        if some:
            x, y = ([r.params[p.name] for r in some] for p in (first, second))
            points = state_trace(state, x, y, [hover_text(r) for r in some], showlegend=False)
            points["marker"] |= {"color": INK[state], "size": 7, "line": outline}
            traces.append(points)
    best = study.best
    if best and {first.name, second.name} <= best.params.keys():
        star = best_marker(best, best.params[first.name])
        traces.append({**star, "y": [best.params[second.name]], "showlegend": False})
    return traces


def _levels(values: np.ndarray, study: StudyView) -> dict[str, Any]:
    """Return ten steps over the better four fifths of the values.

    The worst trials would leave one colour for all others.
    """
    ends = np.quantile(values, [0, 0.8] if study.started.direction == "minimize" else [0.2, 1])
    low, high = (float(end) for end in ends)
    return {
        "contours": {"start": low, "end": high, "size": max((high - low) / 10, 1e-9)},
        "zmin": low,
        "zmax": high,
    }


def _pair(summary: StudySummary) -> tuple[Parameter, Parameter] | None:
    by_name = {
        p.name: p
        for p in summary.study.parameters
        if not isinstance(p.distribution, CategoricalDistribution)
    }
    ranked = [by_name[i.name] for i in summary.importances if i.name in by_name]
    together = [r for r in summary.study.records if r.value is not None]
    pairs = sorted(combinations(range(len(ranked)), 2), key=sum)
    for a, b in pairs:
        if sum({ranked[a].name, ranked[b].name} <= r.params.keys() for r in together) >= 8:
            return ranked[a], ranked[b]
    return None


def _log(parameter: Parameter) -> bool:
    return bool(getattr(parameter.distribution, "log", False))


def _scale(parameter: Parameter) -> list[float]:
    low, high = parameter.distribution.low, parameter.distribution.high  # type: ignore[attr-defined]
    steps = np.geomspace(low, high, GRID) if _log(parameter) else np.linspace(low, high, GRID)
    return [float(step) for step in steps]


def _smoothed(at: np.ndarray, values: np.ndarray) -> list[list[float | None]]:
    """Average trials (n, 2) in the unit square by their nearness to each cell (Nadaraya 1964,
    Watson 1964).
    """
    steps = np.linspace(0, 1, GRID)
    rows = []
    # one row at a time: of ten thousand trials all cells together would be much memory
    for y in steps:
        distance = (steps[:, None] - at[:, 0]) ** 2 + (y - at[:, 1]) ** 2
        weights = np.exp(-distance / (2 * WIDTH**2))
        means = (weights @ values) / np.maximum(weights.sum(axis=-1), 1e-300)
        near = distance.min(axis=-1) < (2 * WIDTH) ** 2
        rows.append([float(mean) if here else None for mean, here in zip(means, near, strict=True)])
    return rows
