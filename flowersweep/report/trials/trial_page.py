"""The page of one trial: its parameters, its curve, and what it predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flowersweep.report import study_page
from flowersweep.report.charts.plotting import Chart, axis, scatter
from flowersweep.report.charts.training import value_axis_of_curves
from flowersweep.report.mistakes import stored
from flowersweep.report.page import Column, Numbers, Part, Section, Table, Text
from flowersweep.report.study_view import StudyView
from flowersweep.report.summary import class_names
from flowersweep.study.records import TrialRecord
from flowersweep.tracking.masking import MASK, masked_text, secret
from flowersweep.util.text import number

TINTS = ("#2b7bd6", "#e07b00")


def introduction(study: StudyView, record: TrialRecord) -> list[Part]:
    """Return the state and the numbers of a trial."""
    rank = {r.number: n for n, r in enumerate(study.complete, 1)}
    place = f"rank {rank[record.number]} of {len(rank)}" if record.number in rank else ""
    boxes = {"State": (record.state, place)}
    if record.value is not None:
        remark = "the objective" if record.state == "complete" else "when it was stopped"
        boxes[study.objective] = (number(record.value), remark)
    if (held_out := record.metrics.get("holdout/macro_f1")) is not None:
        boxes["Held-out macro F1"] = (f"{held_out:.3f}", "on images that the search never saw")
    seconds = record.span[1] - record.span[0]
    boxes["Epochs"] = (str(max(record.curve, default=0)), f"in {seconds:.1f} seconds")
    reason = record.ended.reason if record.ended else None
    return [Numbers(boxes), Text(masked_text(reason) if reason else "")]


def sections(study: StudyView, record: TrialRecord) -> list[Section]:
    """Return the parts of a trial's page."""
    predicted = study.predictions(record.number)
    parts: list[Section] = [
        Section("parameters", "Parameters", [_parameters(study, record)]),
        Section("training", "Learning curve", _curves(study, [record])),
        Section("metrics", "Metrics", [_metrics(record)]),
    ]
    if predicted is None:
        missing = "The predictions of this trial were not kept: only those of the best trials are."
        return [*parts, Section("evaluation", "Evaluation", [Text(missing, soft=True)])]
    names = class_names(study.started.provenance, predicted)
    known = stored(study.folder / "trials" / str(record.number))
    shown = study_page.evaluation(predicted, names, f"Trial {record.number} on both halves of val")
    return [*parts, shown, *([study_page.gallery(known)] if known else [])]


def _curves(study: StudyView, records: Sequence[TrialRecord]) -> list[Part]:
    """Return the objective by epoch of one trial or two."""
    traces = []
    for record, tint in zip(records, TINTS[: len(records)], strict=True):
        if record.curve:
            epochs, values = zip(*sorted(record.curve.items()), strict=True)
            style = {"line": {"color": tint, "width": 2}, "marker": {"size": 5}}
            name = f"trial {record.number}"
            traces.append(scatter(epochs, values, mode="lines+markers", name=name, **style))
    if not traces:
        return [Text("Nothing was trained yet.", soft=True)]
    longest = max((record.curve for record in records), key=len)
    layout = {
        "xaxis": axis("epochs done", **({"dtick": 1} if len(longest) <= 12 else {})),
        "yaxis": value_axis_of_curves(study),
        "height": 340,
        "showlegend": len(traces) > 1,
    }
    label = f"{study.objective} by epoch"
    return [Chart("curve", {"data": traces, "layout": layout}, label)]


def curves(study: StudyView, records: Sequence[TrialRecord]) -> Section:
    """Return the learning curves of two trials in one chart."""
    return Section("training", "Learning curves", _curves(study, records))


def _parameters(study: StudyView, record: TrialRecord) -> Part:
    paths = {p.name: p.path for p in study.parameters}
    rows = [
        [name, MASK if secret(name) else value, paths.get(name)]
        for name, value in record.params.items()
    ]
    columns = [Column("parameter", False), Column("value"), Column("configuration key", False)]
    return Table("What the search chose", columns, rows) if rows else Text("Nothing was searched.")


def _metrics(record: TrialRecord) -> Part:
    rows = [[name, value] for name, value in sorted(record.metrics.items())]
    columns = [Column("metric", False), Column("value")]
    table = Table("The newest metrics", columns, rows)
    return replace(table, tall=len(rows) > 20) if rows else Text("None yet.", soft=True)
