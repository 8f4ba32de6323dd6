"""The trials of a study by two objectives: those that no other trial beats, and how much they
cover.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowersweep.report.charts.plotting import COLOURS, Chart, axis, hover_text, scatter
from flowersweep.report.study_view import StudyView
from flowersweep.study.objectives import direction, objective_values
from flowersweep.study.records import TrialRecord

Point = tuple[float, float]


def pareto(study: StudyView) -> Chart | None:
    """Return the first two objectives of the complete trials, and their front.

    Returns:
        None for one objective, or fewer than two complete trials.
    """
    names = study.record.objectives[:2]
    if len(names) < 2 or len(study.complete) < 2:
        return None
    points = {r.number: _values(r, names) for r in study.complete}
    front = front_of(study.complete, points, names)
    shown = [r for r in study.drawn if r.number in points]
    x, y = zip(*(points[r.number] for r in shown), strict=True)
    line_x, line_y = zip(*(points[r.number] for r in front), strict=True)
    marker = {"color": COLOURS["complete"], "size": 8}
    traces = [
        scatter(
            x,
            y,
            mode="markers",
            name="complete",
            marker=marker,
            text=[hover_text(r) for r in shown],
            hovertemplate="%{text}<extra></extra>",
        ),
        scatter(
            line_x,
            line_y,
            mode="lines+markers",
            name="Pareto front",
            line={"shape": "hv" if direction(names[0]) == "minimize" else "vh"},
            marker={"color": COLOURS["best"], "size": 10, "symbol": "star"},
            hoverinfo="skip",
        ),
    ]
    layout = {"xaxis": axis(names[0]), "yaxis": axis(names[1]), "height": 400}
    share = hypervolume([*points.values()], names)
    label = f"{len(front)} of {len(points)} trials are on the Pareto front of {' and '.join(names)}"
    note = (
        f"No trial is better than those on the front in both. Hypervolume {share:.3f}: the share "
        "of the rectangle around all complete trials that the front dominates."
    )
    return Chart("pareto", {"data": traces, "layout": layout}, label, note)


def front_of(
    trials: Sequence[TrialRecord], points: dict[int, Point], names: Sequence[str]
) -> list[TrialRecord]:
    """Return the trials that no other beats in both objectives, by the first objective."""
    costs = {number: _costs(point, names) for number, point in points.items()}
    front: list[TrialRecord] = []
    lowest = float("inf")
    for record in sorted(trials, key=lambda r: costs[r.number]):
        if costs[record.number][1] < lowest:
            lowest = costs[record.number][1]
            front.append(record)
    return front


def hypervolume(points: Sequence[Point], names: Sequence[str]) -> float:
    """Return the dominated share of the smallest rectangle around the points, from 0 to 1."""
    costs = sorted(_costs(point, names) for point in points)
    (left, right), (low, high) = ((min(c), max(c)) for c in zip(*costs, strict=True))
    if left == right or low == high:
        return 0.0
    area, lowest = 0.0, high
    for x, y in costs:
        if y < lowest:
            area += (right - x) * (lowest - y)
            lowest = y
    return float(area / ((right - left) * (high - low)))


def _values(record: TrialRecord, names: Sequence[str]) -> Point:
    first, second = objective_values(float(record.value or 0.0), record.metrics, names)
    return first, second


def _costs(point: Point, names: Sequence[str]) -> Point:
    x, y = (v if direction(n) == "minimize" else -v for v, n in zip(point, names, strict=True))
    return x, y
