"""Charts of a search: history, importances, one parameter at a time, tune against holdout."""

from __future__ import annotations

from typing import Any

from flowersweep.evaluation.selection import spearman
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
    value_axis,
)
from flowersweep.report.checks.audit import unit_position
from flowersweep.report.checks.noise import NoiseLevel
from flowersweep.report.study_view import StudyView
from flowersweep.report.summary import StudySummary
from flowersweep.study.objectives import better, direction
from flowersweep.study.records import TrialRecord


def best_so_far(study: StudyView) -> tuple[list[int], list[float]]:
    """Return the best value of the objective after each complete trial."""
    numbers: list[int] = []
    values: list[float] = []
    for record in (r for r in study.records if r.state == "complete" and r.value is not None):
        assert record.value is not None
        numbers.append(record.number)
        values.append(
            record.value
            if not values or better(record.value, values[-1], study.objective)
            else values[-1]
        )
    return numbers, values


def history(study: StudyView, noise: NoiseLevel | None) -> Chart:
    """Return the objective of each trial in the order of their starts.

    It shows the best so far, and what is within chance of the best.
    """
    best = study.best
    ended = [r.value for r in study.records if r.value is not None]
    traces = [] if best is None or noise is None else [_band(best, noise, study)]
    traces += _by_state(study, ended)
    if best is not None:
        traces += [_best_line(study), best_marker(best, best.number)]
    note = (
        f"Within chance of the best: two standard errors of a difference, from {noise.source}."
        if noise
        else ""
    )
    if any(r.state == "failed" for r in study.records):
        note += " Failed trials have no value; they are drawn at the worst one."
    figure = {
        "data": traces,
        "layout": {"xaxis": axis("trial"), "yaxis": value_axis(study), "height": 400},
    }
    label = f"{study.objective} of {len(ended)} trials" + (
        f"; the best is {best.value:.4g}, trial {best.number}" if best else ""
    )
    return Chart("history", figure, label, f"{note} {study.sampled}".strip())


def _by_state(study: StudyView, ended: list[float]) -> list[Trace]:
    """Return the drawn trials by state; failed ones at the worst value."""
    worst = (max if direction(study.objective) == "minimize" else min)(ended, default=0.0)
    traces = []
    for state in STATES:
        chosen = [
            r
            for r in study.drawn
            if r.state == state and (r.value is not None or state == "failed")
        ]
        if chosen:
            at = [worst if r.value is None else r.value for r in chosen]
            traces.append(
                state_trace(state, [r.number for r in chosen], at, [hover_text(r) for r in chosen])
            )
    return traces


def _best_line(study: StudyView) -> Trace:
    """Return the best value so far, up to the last trial."""
    numbers, values = best_so_far(study)
    if study.sampled:
        numbers, values = _steps(numbers, values)
    return scatter(
        [*numbers, max(r.number for r in study.records)],
        [*values, values[-1]],
        mode="lines",
        name="best so far",
        line={"shape": "hv", "color": COLOURS["best"], "width": 2},
        hoverinfo="skip",
    )


def _steps(numbers: list[int], values: list[float]) -> tuple[list[int], list[float]]:
    """Keep the trials that were better than all before: the line is flat between them."""
    steps = [n for n, value in enumerate(values) if n == 0 or value != values[n - 1]]
    return [numbers[n] for n in steps], [values[n] for n in steps]


def _band(best: TrialRecord, noise: NoiseLevel, study: StudyView) -> Trace:
    assert best.value is not None
    trials = len(study.records)
    far = best.value + 2 * noise.error * (1 if direction(study.objective) == "minimize" else -1)
    return scatter(
        [-0.5, trials - 0.5, trials - 0.5, -0.5],
        [best.value, best.value, far, far],
        mode="lines",
        fill="toself",
        fillcolor="rgba(224,123,0,0.16)",
        line={"width": 0},
        name="within chance",
        hoverinfo="skip",
    )


def importance(summary: StudySummary) -> Chart | None:
    """Return the importance of each parameter with its interval; None without any."""
    ranked = summary.importances[::-1]
    if not ranked:
        return None
    reach = {
        "array": [i.high - i.share for i in ranked],
        "arrayminus": [i.share - i.low for i in ranked],
        "symmetric": False,
    }
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": [i.share for i in ranked],
        "y": [i.name for i in ranked],
        "marker": {"color": COLOURS["complete"]},
        "error_x": {"type": "data", "color": COLOURS["pruned"], "thickness": 2, **reach},
        "hovertemplate": "%{y}: %{x:.0%}<extra></extra>",
    }
    layout = {
        "xaxis": axis("share", tickformat=".0%", range=[0, 1.02]),
        "yaxis": axis(""),
        "height": 110 + 38 * len(ranked),
    }
    first = ranked[-1]
    note = (
        "PED-ANOVA: which parameters set the best trials apart. Pruned trials count among the "
        "worse ones. Lines: 90 % intervals "
        "over trials. A parameter of one branch counts by how often that branch was good."
    )
    return Chart(
        "importance",
        {"data": [bar], "layout": layout},
        f"most important: {first.name}, {first.share:.0%}",
        note,
    )


def slices(study: StudyView) -> list[Chart]:
    """Return the objective against each parameter, of the trials in which it was active."""
    return [
        _slice(study, p.name)
        for p in study.parameters
        if any(p.name in r.params and r.value is not None for r in study.records)
    ]


def _slice(study: StudyView, name: str) -> Chart:
    [parameter] = [p for p in study.parameters if p.name == name]
    active = [r for r in study.records if name in r.params and r.value is not None]
    shown = [r for r in study.drawn if name in r.params and r.value is not None]
    traces = []
    for state in STATES:
        chosen = [r for r in shown if r.state == state]
        if chosen:
            values = [r.params[name] for r in chosen]
            traces.append(
                state_trace(
                    state,
                    values,
                    [r.value for r in chosen],
                    [hover_text(r) for r in chosen],
                    showlegend=False,
                )
            )
    best = study.best
    if best is not None and name in best.params:
        traces.append({**best_marker(best, best.params[name]), "showlegend": False})
    logged = bool(getattr(parameter.distribution, "log", False))
    plain = unit_position(parameter, active[0].params[name]) is None
    kind: dict[str, Any] = (
        {"type": "category"} if plain else {**LOG, "tickangle": -40} if logged else {}
    )
    figure = {
        "data": traces,
        "layout": {"xaxis": axis(name, **kind), "yaxis": value_axis(study), "height": 300},
    }
    only = "" if not parameter.when else f"Only where {conditions(parameter.when)}."
    return Chart(
        f"slice-{name}", figure, f"{study.objective} against {name}, {len(active)} trials", only
    )


def gap(summary: StudySummary) -> Chart | None:
    """Return the tune score of each complete trial against its held-out score.

    Returns:
        None for fewer than two such trials.
    """
    study = summary.study
    both = [r for r in study.complete if {"tune/macro_f1", "holdout/macro_f1"} <= r.metrics.keys()]
    if len(both) < 2:
        return None
    x, y = ([r.metrics[f"{half}/macro_f1"] for r in both] for half in ("tune", "holdout"))
    ends = [min(x + y), max(x + y)]
    line = {"color": COLOURS["pruned"], "dash": "dot", "width": 1.5}
    shown = [
        r
        for r in study.drawn
        if r.state == "complete" and {"tune/macro_f1", "holdout/macro_f1"} <= r.metrics.keys()
    ]
    across, up = ([r.metrics[f"{half}/macro_f1"] for r in shown] for half in ("tune", "holdout"))
    points = state_trace("complete", across, up, [hover_text(r) for r in shown], showlegend=False)
    star = {**best_marker(both[0], x[0]), "y": [y[0]], "showlegend": False}
    traces = [
        scatter(ends, ends, mode="lines", line=line, hoverinfo="skip", showlegend=False),
        points,
        star,
    ]
    figure = {
        "data": traces,
        "layout": {
            "xaxis": axis("tune/macro_f1"),
            "yaxis": axis("holdout/macro_f1"),
            "height": 320,
        },
    }
    rank = spearman(x, y)
    agreement = (
        "no rank correlation, since one half scores all the same"
        if rank is None
        else f"rank correlation {rank:.2f}"
    )
    note = (
        f"Each complete trial on both halves; {agreement}. On the dotted line both are equal. "
        f"{study.sampled}"
    ).strip()
    return Chart(
        "gap", figure, f"macro F1 on tune and on holdout of {len(both)} trials, {agreement}", note
    )
