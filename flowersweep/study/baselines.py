"""Compare a model with the simplest ones on the same features."""

from __future__ import annotations

from pathlib import Path

from flowersweep.errors import StudyError
from flowersweep.evaluation.scores import Labels, Logits, macro_f1
from flowersweep.evaluation.statistics import compare
from flowersweep.util.arrays import read_arrays

FILE = "baselines.npz"  # name -> float16 logits on the holdout; holdout_labels; FEATURES
FEATURES = "features"  # a name of the features that they were fitted on
STRONGEST = "logistic regression"


def compare_with_baselines(folder: Path, logits: Logits, labels: Labels) -> str | None:
    """Say what the baselines of a study reach, and whether a model is better than the strongest.

    Args:
        folder: The folder of the study.
        logits: Of the model on the holdout (n, K).
        labels: Of the same images (n,).

    Returns:
        None if there are no baselines for these images.
    """
    try:
        arrays = read_arrays(folder / FILE) if (folder / FILE).exists() else {}
    except StudyError:
        return None
    truth = arrays.pop("holdout_labels", None)
    arrays.pop(FEATURES, None)
    if truth is None or truth.shape != labels.shape or (truth != labels).any():
        return None
    scores = {name: macro_f1(values, labels, logits.shape[1]) for name, values in arrays.items()}
    listed = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    if STRONGEST not in arrays:
        return f"baselines on the same features: {listed}"
    gain = compare(logits, arrays[STRONGEST], labels)["macro_f1"]
    verdict = (
        "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not better than"
    )
    return (
        f"baselines on the same features: {listed}; {verdict} {STRONGEST}: {gain.value:+.3f} macro "
        f"F1 (95 % interval {gain.low:+.3f} to {gain.high:+.3f})"
    )
