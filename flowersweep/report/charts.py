"""Charts of what a search found: its history, what decided, one parameter at a time, and what is left on the held-out half."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowersweep.report.audit import place
from flowersweep.report.facts import Facts
from flowersweep.report.marks import COLOURS, LOG, STATES, Chart, Trace, axis, conditions, of_state, scatter, starred, told, value_axis
from flowersweep.report.noise import Band
from flowersweep.report.reading import Reading
from flowersweep.study.objectives import better, direction
from flowersweep.study.records import TrialRecord


def best_so_far(study: Reading) -> tuple[list[int], list[float]]:
    """Return the best value of the objective after each complete trial."""
    numbers: list[int] = []
    values: list[float] = []
    for record in (r for r in study.records if r.state == "complete" and r.value is not None):
        assert record.value is not None
        numbers.append(record.number)
        values.append(record.value if not values or better(record.value, values[-1], study.objective) else values[-1])
    return numbers, values


def history(study: Reading, band: Band | None) -> Chart:
    """The objective of each trial in the order they were begun, the best so far, and the band of chance beside it."""
    best = study.best
    numbers, values = best_so_far(study)
    edge = [r.value for r in study.records if r.value is not None]
    worst = (max if direction(study.objective) == "minimize" else min)(edge, default=0.0)
    traces = [] if best is None or band is None else [_band(best, band, study)]
    for state in STATES:
        chosen = [r for r in study.drawn if r.state == state and (r.value is not None or state == "failed")]
        if chosen:
            at = [worst if r.value is None else r.value for r in chosen]
            traces.append(of_state(state, [r.number for r in chosen], at, [told(r) for r in chosen]))
    if best is not None:
        last = max(r.number for r in study.records)
        line = {"shape": "hv", "color": COLOURS["best"], "width": 2}
        numbers, values = _steps(numbers, values) if study.sampled else (numbers, values)
        traces.append(scatter([*numbers, last], [*values, values[-1]], mode="lines", name="best so far", line=line, hoverinfo="skip"))
        traces.append(starred(best, best.number))
    note = f"Within chance: two standard errors of a difference, from {band.source}." if band else ""
    if any(r.state == "failed" for r in study.records):
        note += " Failed trials have no value and stand at the worst one."
    note = f"{note} {study.sampled}".strip()
    figure = {"data": traces, "layout": {"xaxis": axis("trial"), "yaxis": value_axis(study), "height": 400}}
    said = f"{study.objective} of {len(edge)} trials" + (f"; the best is {best.value:.4g}, trial {best.number}" if best else "")
    return Chart("history", figure, said, note)


def _steps(numbers: list[int], values: list[float]) -> tuple[list[int], list[float]]:
    """Keep the trials that were better than all before: the line is flat between them."""
    found = [n for n, value in enumerate(values) if n == 0 or value != values[n - 1]]
    return [numbers[n] for n in found], [values[n] for n in found]


def _band(best: TrialRecord, band: Band, study: Reading) -> Trace:
    assert best.value is not None
    trials = len(study.records)
    far = best.value + 2 * band.error * (1 if direction(study.objective) == "minimize" else -1)
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


def importance(facts: Facts) -> Chart | None:
    """Which parameters decided, with intervals."""
    found = facts.importances[::-1]
    if not found:
        return None
    reach = {"array": [i.high - i.share for i in found], "arrayminus": [i.share - i.low for i in found], "symmetric": False}
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": [i.share for i in found],
        "y": [i.name for i in found],
        "marker": {"color": COLOURS["complete"]},
        "error_x": {"type": "data", "color": COLOURS["pruned"], "thickness": 2, **reach},
        "hovertemplate": "%{y}: %{x:.0%}<extra></extra>",
    }
    layout = {"xaxis": axis("share", tickformat=".0%", range=[0, 1.02]), "yaxis": axis(""), "height": 110 + 38 * len(found)}
    first = found[-1]
    note = (
        "PED-ANOVA: what set the best trials apart from the others; pruned trials count among the others. Lines: 90 % intervals "
        "over trials. A parameter of one branch counts by how often the branch was good."
    )
    return Chart("importance", {"data": [bar], "layout": layout}, f"most important: {first.name}, {first.share:.0%}", note)


def slices(study: Reading) -> list[Chart]:
    """The objective against each parameter, of the trials in which it was active."""
    return [_slice(study, p.name) for p in study.parameters if any(p.name in r.params and r.value is not None for r in study.records)]


def _slice(study: Reading, name: str) -> Chart:
    [parameter] = [p for p in study.parameters if p.name == name]
    active = [r for r in study.records if name in r.params and r.value is not None]
    shown = [r for r in study.drawn if name in r.params and r.value is not None]
    traces = []
    for state in STATES:
        chosen = [r for r in shown if r.state == state]
        if chosen:
            values = [r.params[name] for r in chosen]
            traces.append(of_state(state, values, [r.value for r in chosen], [told(r) for r in chosen], showlegend=False))
    best = study.best
    if best is not None and name in best.params:
        traces.append({**starred(best, best.params[name]), "showlegend": False})
    logged = bool(getattr(parameter.distribution, "log", False))
    plain = place(parameter, active[0].params[name]) is None
    kind: dict[str, Any] = {"type": "category"} if plain else {**LOG, "tickangle": -40} if logged else {}
    figure = {"data": traces, "layout": {"xaxis": axis(name, **kind), "yaxis": value_axis(study), "height": 300}}
    only = "" if not parameter.when else f"Only where {conditions(parameter.when)}."
    return Chart(f"slice-{name}", figure, f"{study.objective} against {name}, {len(active)} trials", only)


def gap(facts: Facts) -> Chart | None:
    """Whether what is good on the tune half is good on the half that the search never saw."""
    both = [r for r in facts.study.complete if {"tune/macro_f1", "holdout/macro_f1"} <= r.metrics.keys()]
    if len(both) < 2:
        return None
    x, y = ([r.metrics[f"{half}/macro_f1"] for r in both] for half in ("tune", "holdout"))
    ends = [min(x + y), max(x + y)]
    line = {"color": COLOURS["pruned"], "dash": "dot", "width": 1.5}
    shown = [r for r in facts.study.drawn if r.state == "complete" and {"tune/macro_f1", "holdout/macro_f1"} <= r.metrics.keys()]
    across, up = ([r.metrics[f"{half}/macro_f1"] for r in shown] for half in ("tune", "holdout"))
    points = of_state("complete", across, up, [told(r) for r in shown], showlegend=False)
    star = {**starred(both[0], x[0]), "y": [y[0]], "showlegend": False}
    traces = [scatter(ends, ends, mode="lines", line=line, hoverinfo="skip", showlegend=False), points, star]
    figure = {"data": traces, "layout": {"xaxis": axis("tune/macro_f1"), "yaxis": axis("holdout/macro_f1"), "height": 320}}
    rank = float(np.corrcoef(np.argsort(np.argsort(x)), np.argsort(np.argsort(y)))[0, 1])
    note = f"Each complete trial on both halves; rank correlation {rank:.2f}. On the dotted line both are equal."
    note = f"{note} {facts.study.sampled}".strip()
    return Chart("gap", figure, f"macro F1 on tune and on holdout of {len(both)} trials, rank correlation {rank:.2f}", note)
