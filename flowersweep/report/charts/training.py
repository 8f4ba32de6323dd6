"""Charts of trials in the making: the objective epoch by epoch, and when each trial ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowersweep.report.charts.plotting import COLOURS, LOG, STATES, Chart, Trace, axis, scatter
from flowersweep.report.study_view import StudyView

MOST_CURVES = 150
DOTTED = {"color": COLOURS["pruned"], "width": 1.5, "dash": "dot"}


def curves(study: StudyView) -> Chart | None:
    """Return the objective of each trial after each epoch; pruned ones are faded.

    Returns:
        None if no trial has trained an epoch.
    """
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
    """Return the best trials, and as many of the others, taken evenly.

    More would be a surface.
    """
    others = ranked[MOST_CURVES:]
    return ranked[:MOST_CURVES] + others[:: max(1, -(-len(others) // MOST_CURVES))]


def value_axis_of_curves(study: StudyView) -> dict[str, Any]:
    """Return the axis of curves: logarithmic for likelihoods, which begin far away."""
    positive = all(value > 0 for curve in study.curves.values() for value in curve.values())
    return axis(study.objective, **(LOG if positive and study.objective.endswith("nll") else {}))


def _lines(study: StudyView, numbers: Sequence[int], **more: Any) -> Trace:
    """Return the curves of several trials as one trace, with gaps between them.

    A thousand traces would be slow.
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
    """Return when each trial ran: one row a trial, or a worker where there were several.

    Returns:
        None if no trial has run.
    """
    if not study.spans:
        return None
    longest = max(span.end for span in study.spans.values())
    unit, seconds = _unit(longest)
    workers = any(span.worker for span in study.spans.values())
    marks = _resume_marks(study, seconds)
    layout = {
        "xaxis": axis(f"running time, {unit}"),
        "yaxis": axis("worker (0: none)", autorange="reversed", dtick=1)
        if workers
        else axis("trial", autorange="reversed"),
        "barmode": "overlay",
        "bargap": 0.1,
        "height": 360,
        "shapes": marks,
    }
    note = "Dotted: the study was resumed; pauses are left out." if marks else ""
    return Chart(
        "timeline",
        {"data": _bars(study, seconds, workers=workers), "layout": layout},
        f"{len(study.spans)} trials in {longest / seconds:.3g} {unit}",
        f"{note} {study.sampled}".strip(),
    )


def _unit(longest: float) -> tuple[str, float]:
    """Return the unit for a time in seconds, and how many seconds it has."""
    if longest < 300:
        return "seconds", 1.0
    return ("minutes", 60.0) if longest < 5 * 3600 else ("hours", 3600.0)


def _bars(study: StudyView, seconds: float, *, workers: bool) -> list[Trace]:
    """Return a bar a trial by state, in units of so many seconds."""
    traces = []
    for state in STATES:
        chosen = [r for r in study.drawn if r.state == state and r.number in study.spans]
        spans = [study.spans[r.number] for r in chosen]
        if not chosen:
            continue
        rows = [span.worker or 0 for span in spans] if workers else [r.number for r in chosen]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": state,
                "base": [span.start / seconds for span in spans],
                "x": [(span.end - span.start) / seconds for span in spans],
                "y": rows,
                "text": [
                    f"trial {r.number}, {span.end - span.start:.3g} s"
                    for r, span in zip(chosen, spans, strict=True)
                ],
                "textposition": "none",
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {
                    "color": COLOURS[state],
                    "line": {"width": int(workers), "color": "white"},
                },
                "width": 0.8,
            }
        )
    return traces


def _resume_marks(study: StudyView, seconds: float) -> list[dict[str, Any]]:
    """Return a dotted line for each time that the study was resumed."""
    return [
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
