"""Compare a model with the simplest ones on the same features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowersweep.errors import StudyError
from flowersweep.evaluation.scores import Labels, Logits, accuracy, macro_f1
from flowersweep.evaluation.statistics import Difference, Interval, compare, macro_f1_interval
from flowersweep.util.arrays import read_arrays

FILE = "baselines.npz"  # name -> float16 logits on the holdout; holdout_labels; FEATURES
FEATURES = "features"  # a name of the features that they were fitted on
STRONGEST = "logistic regression"


@dataclass(frozen=True)
class BaselineScore:
    """What a baseline reaches on the holdout, and how much more a model reaches there."""

    name: str
    accuracy: float
    macro_f1: float
    interval: Interval  # of the macro F1
    gain: Difference  # macro F1 of the model less that of the baseline


def score_baselines(folder: Path, logits: Logits, labels: Labels) -> list[BaselineScore]:
    """Return the baselines of a study next to a model.

    Args:
        folder: The folder of the study.
        logits: Of the model on the holdout (n, K).
        labels: Of the same images (n,).

    Returns:
        None of them if there are none for these images.
    """
    try:
        arrays = read_arrays(folder / FILE) if (folder / FILE).exists() else {}
    except StudyError:
        return []
    truth = arrays.pop("holdout_labels", None)
    arrays.pop(FEATURES, None)
    if truth is None or truth.shape != labels.shape or (truth != labels).any():
        return []
    return [
        BaselineScore(
            name,
            accuracy(values, labels),
            macro_f1(values, labels, logits.shape[1]),
            macro_f1_interval(values.argmax(axis=1), labels, logits.shape[1]),
            compare(logits, values, labels)["macro_f1"],
        )
        for name, values in arrays.items()
    ]


def verdict(gain: Difference) -> str:
    """Say whether a model is better than a baseline."""
    return "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not better than"


def compare_with_baselines(folder: Path, logits: Logits, labels: Labels) -> str | None:
    """Say what the baselines of a study reach, and whether a model is better than the strongest.

    See `score_baselines`; None if there are no baselines for these images.
    """
    scores = score_baselines(folder, logits, labels)
    if not scores:
        return None
    listed = ", ".join(f"{score.name} {score.macro_f1:.3f}" for score in scores)
    text = f"baselines on the same features: {listed}"
    gain = next((score.gain for score in scores if score.name == STRONGEST), None)
    if gain is None:
        return text
    return (
        f"{text}; {verdict(gain)} {STRONGEST}: {gain.value:+.3f} macro "
        f"F1 (95 % interval {gain.low:+.3f} to {gain.high:+.3f})"
    )
