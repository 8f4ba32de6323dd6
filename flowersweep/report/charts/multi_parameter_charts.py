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
    """One line a trial through the parameters that were active in it, to its rank."""
    ranked = study.complete
    if len(ranked) < 2 or len(study.parameters) < 2:
        return None
    rank = {r.number: 1 - n / (len(ranked) - 1) for n, r in enumerate(ranked)}
    shown = {r.number for r in study.drawn}
    drawn = [r for r in ranked if r.number in shown]
    pruned = [r for r in study.drawn if r.state == "pruned"]
    tenth = max(1, round(len(ranked) / 10))
    few = min(tenth, MOST_BOLD)
    parts = (
        ("pruned", pruned, COLOURS["pruned"], 0.15, 1),
        ("complete", drawn[few:], COLOURS["complete"], 0.4, 1),
        (
            "best tenth" if few == tenth else f"best {few}",
            drawn[few - 1 :: -1],
            COLOURS["best"],
            0.95,
            2.5,
        ),
    )
    names = [*(p.name for p in study.parameters), "rank"]
    traces = []
    for name, chosen, colour, opacity, width in parts:
        if chosen:
            points = [
                point
                for r in chosen
                for point in [
                    *_places(study, r),
                    (len(names) - 1, rank.get(r.number)),
                    (None, None),
                ]
            ]
            line = {"color": colour, "width": width}
            x, places = zip(*points, strict=True)
            traces.append(
                scatter(
                    x,
                    places,
                    mode="lines+markers",
                    marker={"size": 4},
                    name=name,
                    line=line,
                    opacity=opacity,
                    hoverinfo="skip",
                )
            )
    ticks = {
        "tickmode": "array",
        "tickvals": [*range(len(names))],
        "ticktext": names,
        "range": [-0.4, len(names) - 0.6],
    }
    upright = axis("", visible=False, range=[-0.12, 1.12])
    layout = {
        "xaxis": axis("", **ticks),
        "yaxis": upright,
        "height": 420,
        "annotations": [*_ends(study)],
    }
    broken = any(p.when for p in study.parameters)
    note = "A line has no dot where a parameter was not active in the trial." if broken else ""
    note = f"{note} {study.sampled}".strip()
    return Chart(
        "parallel",
        {"data": traces, "layout": layout},
        f"{len(drawn)} complete and {len(pruned)} pruned trials",
        note,
    )


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
    """What stands at the ends of each upright axis."""
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
    """The smoothed objective over the two most important numbers often active together."""
    chosen = _pair(summary)
    if chosen is None:
        return None
    (first, second), study = chosen, summary.study
    trials = [
        r
        for r in study.records
        if first.name in r.params and second.name in r.params and r.value is not None
    ]
    numbers = {r.number for r in trials}
    at = np.array(
        [[unit_position(p, r.params[p.name]) or 0.0 for p in (first, second)] for r in trials]
    )
    values = np.array([float(r.value or 0) for r in trials])
    map_ = {
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
    traces: list[Trace] = [map_]
    for state in STATES:
        some = [r for r in study.drawn if r.state == state and r.number in numbers]
        if some:
            points = state_trace(
                state,
                *_columns(some, first, second),
                [hover_text(r) for r in some],
                showlegend=False,
            )
            points["marker"] |= {
                "color": INK[state],
                "size": 7,
                "line": {"width": 1.2, "color": "#10233a"},
            }
            traces.append(points)
    best = study.best
    if best and {first.name, second.name} <= best.params.keys():
        traces.append(
            {
                **best_marker(best, best.params[first.name]),
                "y": [best.params[second.name]],
                "showlegend": False,
            }
        )
    axes = [axis(p.name, **(LOG if _log(p) else {})) for p in (first, second)]
    layout = {"xaxis": axes[0] | {"tickangle": -40}, "yaxis": axes[1], "height": 420}
    only = {**first.when, **second.when}
    note = "Smoothed over near trials; empty where none are near." + (
        f" Only where {conditions(only)}." if only else ""
    )
    return Chart(
        "contour",
        {"data": traces, "layout": layout},
        f"{study.objective} over {first.name} and {second.name}",
        note,
    )


def _levels(values: np.ndarray, study: StudyView) -> dict[str, Any]:
    """Ten steps over the better four fifths: the worst trials would leave one colour for all
    others.
    """
    ends = np.quantile(values, [0, 0.8] if study.started.direction == "minimize" else [0.2, 1])
    low, high = (float(end) for end in ends)
    return {
        "contours": {"start": low, "end": high, "size": max((high - low) / 10, 1e-9)},
        "zmin": low,
        "zmax": high,
    }


def _columns(
    trials: Sequence[TrialRecord], first: Parameter, second: Parameter
) -> tuple[list[Any], list[Any]]:
    return [r.params[first.name] for r in trials], [r.params[second.name] for r in trials]


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
