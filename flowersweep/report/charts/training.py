"""Charts of trials in the making: the objective epoch by epoch, and when each trial ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowersweep.report.charts.plotting import COLOURS, LOG, STATES, Chart, Trace, axis, scatter
from flowersweep.report.study_view import StudyView

MOST_CURVES = 150


def curves(study: StudyView) -> Chart | None:
    """The objective of each trial after each epoch; pruned ones are faded."""
    best = study.best
    drawn = {r.number: r for r in study.records if len(study.curves.get(r.number, ())) > 0}
    if not drawn:
        return None
    shown = _some(
        [n for n in dict.fromkeys([*(r.number for r in study.complete), *drawn]) if n in drawn]
    )
    traces = []
    for state, opacity in (("pruned", 0.35), ("failed", 0.6), ("running", 0.8), ("complete", 0.55)):
        numbers = [
            n for n in shown if drawn[n].state == state and (best is None or n != best.number)
        ]
        if numbers:
            traces.append(
                _lines(
                    study,
                    numbers,
                    name=state,
                    opacity=opacity,
                    line={"color": COLOURS[state], "width": 1.2},
                )
            )
    if best is not None and best.number in drawn:
        traces.append(
            _lines(
                study,
                [best.number],
                name=f"best, trial {best.number}",
                line={"color": COLOURS["best"], "width": 3},
            )
        )
    layout = {"xaxis": axis("epochs done"), "yaxis": value_axis_of_curves(study), "height": 400}
    note = (
        f"The best {MOST_CURVES} and as many of the {len(drawn) - MOST_CURVES} others."
        if len(shown) < len(drawn)
        else ""
    )
    return Chart(
        "curves",
        {"data": traces, "layout": layout},
        f"{study.objective} by epoch of {len(drawn)} trials",
        note,
    )


def _some(ranked: list[int]) -> list[int]:
    """The best trials, and as many of the others, taken evenly: more would be a surface."""
    others = ranked[MOST_CURVES:]
    return ranked[:MOST_CURVES] + others[:: max(1, -(-len(others) // MOST_CURVES))]


def value_axis_of_curves(study: StudyView) -> dict[str, Any]:
    """Return the axis of curves; likelihoods begin far away, so their logarithm is shown."""
    positive = all(value > 0 for curve in study.curves.values() for value in curve.values())
    return axis(study.objective, **(LOG if positive and study.objective.endswith("nll") else {}))


def _lines(study: StudyView, numbers: Sequence[int], **more: Any) -> Trace:
    """Curves of several trials in one trace, with gaps between them: a thousand traces would be
    slow.
    """
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for number in numbers:
        curve = sorted(study.curves[number].items())
        x += [*(epoch for epoch, _ in curve), None]
        y += [*(value for _, value in curve), None]
        text += [f"trial {number}"] * (len(curve) + 1)
    mode = "lines+markers" if len(x) == 2 * len(numbers) else "lines"
    return scatter(
        x, y, mode=mode, text=text, hovertemplate="%{text}: %{y:.4g}<extra></extra>", **more
    )


def timeline(study: StudyView) -> Chart | None:
    """When each trial ran: one row a trial, or a worker where there were several."""
    if not study.spans:
        return None
    longest = max(span.end for span in study.spans.values())
    unit, seconds = (
        ("seconds", 1.0)
        if longest < 300
        else ("minutes", 60.0)
        if longest < 5 * 3600
        else ("hours", 3600.0)
    )
    crew = any(span.worker for span in study.spans.values())
    traces = []
    for state in STATES:
        chosen = [r for r in study.drawn if r.state == state and r.number in study.spans]
        spans = [study.spans[r.number] for r in chosen]
        if chosen:
            traces.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": state,
                    "base": [span.start / seconds for span in spans],
                    "x": [(span.end - span.start) / seconds for span in spans],
                    "y": [
                        span.worker or 0 if crew else r.number
                        for r, span in zip(chosen, spans, strict=True)
                    ],
                    "text": [
                        f"trial {r.number}, {span.end - span.start:.3g} s"
                        for r, span in zip(chosen, spans, strict=True)
                    ],
                    "textposition": "none",
                    "hovertemplate": "%{text}<extra></extra>",
                    "marker": {
                        "color": COLOURS[state],
                        "line": {"width": int(crew), "color": "white"},
                    },
                    "width": 0.8,
                }
            )
    lines = [
        {
            "type": "line",
            "yref": "paper",
            "x0": at / seconds,
            "x1": at / seconds,
            "y0": 0,
            "y1": 1,
            "line": DOTTED,
        }
        for at in study.record.resumed_at
    ]
    rows = (
        axis("worker (0: none)", autorange="reversed", dtick=1)
        if crew
        else axis("trial", autorange="reversed")
    )
    layout = {
        "xaxis": axis(f"running time, {unit}"),
        "yaxis": rows,
        "barmode": "overlay",
        "bargap": 0.1,
        "height": 360,
        "shapes": lines,
    }
    note = "Dotted: the study was gone on with; pauses are left out." if lines else ""
    note = f"{note} {study.sampled}".strip()
    return Chart(
        "timeline",
        {"data": traces, "layout": layout},
        f"{len(study.spans)} trials in {longest / seconds:.3g} {unit}",
        note,
    )


DOTTED = {"color": COLOURS["pruned"], "width": 1.5, "dash": "dot"}
