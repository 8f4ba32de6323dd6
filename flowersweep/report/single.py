"""The page of one run, made from what MLflow holds of it: how it was trained, and what it predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from flowersweep.config.paths import flatten
from flowersweep.report import sections
from flowersweep.report.facts import names_of
from flowersweep.report.marks import Chart, axis, scatter, short
from flowersweep.report.mistakes import gallery, stored
from flowersweep.report.page import Column, Section, beside, command, figure, numbers, page, paragraph, table
from flowersweep.report.reading import Predictions
from flowersweep.tracking.recorded import RecordedRun

COURSES = {"likelihood": ("train/loss", "tune/nll", "tune/calibrated_nll"), "hits": ("tune/accuracy", "tune/macro_f1")}
TINTS = ("#8f959c", "#2b7bd6", "#e07b00")


def write(found: RecordedRun, path: Path, cache: Path) -> Path:
    """Write the page of a run, whole or not at all; pictures of mistakes are made if the images are at hand."""
    kept = _predictions(found.file("evaluation/logits.npz"))
    parts = [_run(found), _training(found), _evaluation(found, kept), sections.gallery(_mistakes(found, kept, cache)), _settings(found)]
    begun = float(found.tags.get("flowersweep.begun", 0)) / 1000
    parts.append(sections.origin(found.provenance, begun, found.config.get("seed")))
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page(f"Run {found.name}", _introduction(found), parts), encoding="utf-8")
    partial.replace(path)
    return path


def _predictions(path: Path | None) -> Predictions | None:
    try:
        with np.load(path or "", allow_pickle=False) as file:
            return Predictions(*(file[name] for name in ("tune", "tune_labels", "holdout", "holdout_labels")))
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _introduction(found: RecordedRun) -> str:
    shown = {"state": (found.state, found.tags.get("flowersweep.reason", f"of the study {found.tags.get('flowersweep.study')}"))}
    shown["epochs"] = (str(found.epochs), "that were trained")
    objective = found.tags.get("flowersweep.objective", "")
    for name, more in ((objective, "the objective"), ("holdout/macro_f1", "on the held-out half"), ("images_per_second", "while training")):
        if name in found.metrics:
            shown[name] = (short(found.metrics[name]), more)
    return numbers(shown)


def _run(found: RecordedRun) -> Section:
    rows = [[name, value] for name, value in sorted(found.params.items())]
    params = table("Its parameters", [Column("parameter", False), Column("value")], rows) if rows else ""
    again = paragraph("Train it again and compare every digit:") + command("command", f"python -m flowersweep replay run={found.run}")
    replayed = found.tags.get("flowersweep.replay")
    return Section("run", "Run", again + (paragraph(f"Replayed last: {replayed}.") if replayed else "") + params)


def _training(found: RecordedRun) -> Section:
    charts = [chart for name, metrics in COURSES.items() if (chart := _course(found, name, metrics)) is not None]
    html = beside(*map(figure, charts)) if charts else paragraph("Nothing was logged epoch by epoch.", "soft")
    return Section("training", "Training", html, tuple(charts))


def _course(found: RecordedRun, name: str, metrics: tuple[str, ...]) -> Chart | None:
    traces = []
    for metric, tint in zip(metrics, TINTS, strict=False):
        curve = sorted(found.curves.get(metric, {}).items())
        if curve:
            epochs, values = zip(*curve, strict=True)
            traces.append(scatter(epochs, values, mode="lines+markers", name=metric, line={"color": tint, "width": 2}, marker={"size": 5}))
    layout = {"xaxis": axis("epochs done"), "yaxis": axis(""), "height": 320}
    return Chart(f"course-{name}", {"data": traces, "layout": layout}, f"{', '.join(metrics)} by epoch") if traces else None


def _evaluation(found: RecordedRun, kept: Predictions | None) -> Section:
    if kept is not None:
        return sections.evaluation(kept, names_of(found.provenance, kept), "The run on both halves")
    rows = [[name, value] for name, value in sorted(found.metrics.items()) if name.startswith(("tune/", "holdout/"))]
    told = paragraph("The run kept no logits (only the best trials of a sweep do: sweep.keep), so there is no confusion to show.", "soft")
    return Section("evaluation", "Evaluation", told + table("What it ended with", [Column("metric", False), Column("value")], rows))


def _mistakes(found: RecordedRun, kept: Predictions | None, cache: Path) -> Any:
    known = stored(found.files)
    if known is not None or kept is None:
        return known or "The run kept no logits, so its mistakes are not known."
    return gallery(kept, found.config, found.provenance, cache)


def _settings(found: RecordedRun) -> Section:
    rows = [[path, "null" if value is None else str(value)] for path, value in flatten(found.config)]
    return Section(
        "settings", "Settings", table("The whole configuration", [Column("key", False), Column("value", False)], rows, tall=True)
    )
