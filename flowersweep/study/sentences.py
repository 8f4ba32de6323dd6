"""Describe in a sentence how the trials of a study are judged, and its best trial."""

from __future__ import annotations

from pathlib import Path

from flowersweep.errors import StudyError
from flowersweep.evaluation.scores import macro_f1
from flowersweep.evaluation.statistics import macro_f1_interval
from flowersweep.study.baselines import compare_with_baselines
from flowersweep.study.events import StudyStarted
from flowersweep.study.records import TrialRecord
from flowersweep.util.arrays import read_arrays
from flowersweep.util.text import quantity


def describe_judging(started: StudyStarted) -> str | None:
    """Describe what trials are judged by, and why; None if it is tune alone."""
    folds = started.settings.get("data.folds") or 1
    counts = started.provenance.get("data", {}).get("counts", {})
    if folds == 1 or not {"train", "tune"} <= counts.keys():
        return None
    images = counts["train"] + counts["tune"] - counts.get("extra", 0)
    chosen = started.config.get("data", {}).get("folds") is None
    return (
        f"tune has {quantity(counts['tune'], 'image')}"
        f"{', too few to choose by' if chosen else ''}: trials are judged by {folds}-fold "
        f"cross-validation over train and tune, {images} images"
        f"{'; by tune alone: data.folds=1' if chosen else f', as data.folds={folds} asks for'}"
    )


def describe_cut(started: StudyStarted) -> str | None:
    """Describe which splits were cut from train by chance; None if the images brought all."""
    known, asked = started.provenance.get("data", {}), started.config.get("data", {})
    cut = [
        f"{quantity(known['counts'][name], 'image')} for {name} "
        f"(data.{name}_fraction={asked.get(f'{name}_fraction')})"
        for name in known.get("cut", [])
    ]
    if not cut:
        return None
    return (
        f"cut from train, by chance within each class: {', '.join(cut)}; train keeps "
        f"{known['counts']['train']}"
    )


def describe_best(folder: Path, best: TrialRecord | None, picked_from: int, objective: str) -> str:
    """Describe the best trial of a study: its held-out score with an interval, and the selection.

    Args:
        folder: The folder of the study.
        picked_from: The number of trials that the best was picked from.
        objective: The objective that picked it.
    """
    if best is None:
        return "no trial was completed"
    if "tune/macro_f1" in best.metrics and "holdout/macro_f1" not in best.metrics:
        return (
            f"best: trial {best.number}, trained on all labelled images: none is held out to judge "
            "it by"
        )
    path = folder / "trials" / str(best.number) / "logits.npz"
    if not path.exists():
        return f"best: trial {best.number}, whose predictions are not in the study's folder"
    try:
        arrays = read_arrays(path)
    except StudyError as error:
        return f"best: trial {best.number}; {error}"
    logits, labels = arrays["holdout"], arrays["holdout_labels"]
    low, high = macro_f1_interval(logits.argmax(axis=1), labels, logits.shape[1])
    score = macro_f1(logits, labels, logits.shape[1])
    baselines = compare_with_baselines(folder, logits, labels)
    return (
        f"best: trial {best.number}, macro F1 {score:.3f} on "
        f"{quantity(len(labels), 'held-out image')} (95 % interval {low:.3f} to {high:.3f}, one "
        f"seed), picked from {quantity(picked_from, 'trial')} by {objective}"
    ) + (f"; {baselines}" if baselines else "")
