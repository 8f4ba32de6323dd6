"""The page of one run, from what MLflow holds of it: its training and its predictions."""

from __future__ import annotations

import logging
from pathlib import Path

from flowersweep.config.paths import flatten
from flowersweep.errors import StudyError
from flowersweep.report import study_page
from flowersweep.report.charts.plotting import Chart, axis, scatter
from flowersweep.report.mistakes import Mistake, gallery, stored
from flowersweep.report.page import (
    Column,
    Command,
    Numbers,
    Part,
    Section,
    Table,
    Text,
    grid,
    render,
    write_page,
)
from flowersweep.report.study_view import Predictions
from flowersweep.report.summary import class_names
from flowersweep.tracking.recorded import RecordedRun
from flowersweep.util.arrays import read_arrays
from flowersweep.util.text import number

log = logging.getLogger(__name__)

COURSES = {
    "likelihood": ("train/loss", "tune/nll", "tune/calibrated_nll"),
    "hits": ("tune/accuracy", "tune/macro_f1"),
}
SEEN = (
    "The run was trained on all labelled images, so no score here says how good it is: its "
    "siblings, which have not seen val, do."
)
TINTS = ("#8f959c", "#2b7bd6", "#e07b00")


def write_run_report(run: RecordedRun, path: Path, cache: Path) -> Path:
    """Write the page of a run, whole or not at all.

    Pictures of mistakes are made if the images are at hand.
    """
    predicted = None
    if not _has_seen_all(run):
        predicted = _predictions(run.file("evaluation/logits.npz"))
    started = float(run.tags.get("flowersweep.started", 0)) / 1000
    sections = [
        _run(run),
        _training(run),
        _evaluation(run, predicted),
        study_page.gallery(_mistakes(run, predicted, cache)),
        _settings(run),
        study_page.provenance(run.provenance, started, run.config.get("seed")),
    ]
    return write_page(path, render(f"Run {run.name}", _introduction(run), sections))


def _has_seen_all(run: RecordedRun) -> bool:
    """Return whether a run was trained on all labelled images: none of them says how good it is."""
    return bool(run.config.get("data", {}).get("train_on") == "all")


def _predictions(path: Path | None) -> Predictions | None:
    if path is None:
        return None
    try:
        arrays = read_arrays(path)
        return Predictions(
            *(arrays[name] for name in ("tune", "tune_labels", "holdout", "holdout_labels"))
        )
    except (StudyError, KeyError) as error:
        log.warning("predictions are left out of the report: %s", error)
        return None


def _introduction(run: RecordedRun) -> list[Part]:
    of_study = f"of the study {run.tags.get('flowersweep.study')}"
    boxes = {"State": (run.state, run.tags.get("flowersweep.reason", of_study))}
    boxes["Epochs"] = (str(run.epochs), "that were trained")
    remarks = {
        run.tags.get("flowersweep.objective", ""): "the objective",
        "holdout/macro_f1": "on the held-out half",
        "images_per_second": "while training",
    }
    boxes |= {
        name: (number(run.metrics[name]), remark)
        for name, remark in remarks.items()
        if name in run.metrics
    }
    return [Numbers(boxes)]


def _run(run: RecordedRun) -> Section:
    rows = [[name, value] for name, value in sorted(run.params.items())]
    parts: list[Part] = [
        Text("Train this run again and compare every digit:"),
        Command(f"python -m flowersweep replay run={run.run}"),
    ]
    if (replayed := run.tags.get("flowersweep.replay")) is not None:
        parts.append(Text(f"The last replay: {replayed}."))
    if rows:
        parts.append(
            Table("Parameters of the run", [Column("parameter", False), Column("value")], rows)
        )
    return Section("run", "Run", parts)


def _training(run: RecordedRun) -> Section:
    charts = [
        chart
        for name, metrics in COURSES.items()
        if (chart := _course(run, name, metrics)) is not None
    ]
    nothing = Text("No metric was logged epoch by epoch.", soft=True)
    return Section("training", "Training", [grid(charts)] if charts else [nothing])


def _course(run: RecordedRun, name: str, metrics: tuple[str, ...]) -> Chart | None:
    traces = []
    for metric, tint in zip(metrics, TINTS[: len(metrics)], strict=True):
        curve = sorted(run.curves.get(metric, {}).items())
        if curve:
            epochs, values = zip(*curve, strict=True)
            style = {"line": {"color": tint, "width": 2}, "marker": {"size": 5}}
            traces.append(scatter(epochs, values, mode="lines+markers", name=metric, **style))
    layout = {"xaxis": axis("epochs done"), "yaxis": axis(""), "height": 320}
    label = f"{', '.join(metrics)} by epoch"
    return Chart(f"course-{name}", {"data": traces, "layout": layout}, label) if traces else None


def _evaluation(run: RecordedRun, predicted: Predictions | None) -> Section:
    if predicted is not None:
        return study_page.evaluation(
            predicted, class_names(run.provenance, predicted), "The run on both halves of val"
        )
    rows = [
        [name, value]
        for name, value in sorted(run.metrics.items())
        if name.startswith(("tune/", "holdout/"))
    ]
    note = (
        SEEN
        if _has_seen_all(run)
        else "The run kept no logits, so there is no confusion to show. "
        "Only the best trials of a sweep keep theirs (sweep.save_predictions_of_best)."
    )
    table = Table("Scores of the run", [Column("metric", False), Column("value")], rows)
    return Section("evaluation", "Evaluation", [Text(note, soft=True), table])


def _mistakes(run: RecordedRun, predicted: Predictions | None, cache: Path) -> list[Mistake] | str:
    if _has_seen_all(run):
        return SEEN
    known = stored(run.files)
    if known is not None or predicted is None:
        return known or "The run kept no logits, so its mistakes are not known."
    return gallery(predicted, run.config, run.provenance, cache)


def _settings(run: RecordedRun) -> Section:
    rows = [[path, "null" if value is None else str(value)] for path, value in flatten(run.config)]
    columns = [Column("key", False), Column("value", False)]
    return Section(
        "settings", "Settings", [Table("The whole configuration", columns, rows, tall=True)]
    )
