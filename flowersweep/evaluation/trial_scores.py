"""The scores of a trial: those of every epoch, and those of its end.

A new metric is computed in ``scores.py`` or ``calibration.py``, and named here.
"""

from __future__ import annotations

from collections.abc import Mapping

from flowersweep.evaluation.calibration import brier, reliability, temperature
from flowersweep.evaluation.scores import Labels, Logits, accuracy, macro_f1, nll


def score_part(part: str, logits: Logits, labels: Labels, temperature: float) -> dict[str, float]:
    """Return the scores of one part that every epoch has, by name such as ``tune/nll``.

    ``temperature`` is the one that tune chose. ``calibrated_nll`` alone needs it.
    """
    return {
        f"{part}/calibrated_nll": nll(logits, labels, temperature),
        f"{part}/nll": nll(logits, labels),
        f"{part}/accuracy": accuracy(logits, labels),
        f"{part}/macro_f1": macro_f1(logits, labels, logits.shape[1]),
    }


def final_scores(logits: Mapping[str, Logits], labels: Mapping[str, Labels]) -> dict[str, float]:
    """Return the scores that a trial ends with, for each part of ``labels`` (n,).

    The calibrated scores of every part are at the temperature of tune: one that holdout had chosen
    would flatter it.
    """
    fitted = temperature(logits["tune"], labels["tune"])
    scores = {"tune/temperature": fitted}
    for part, truth in labels.items():
        scores |= score_part(part, logits[part], truth, fitted)
        scores[f"{part}/ece"] = reliability(logits[part], truth).error
        scores[f"{part}/calibrated_ece"] = reliability(
            logits[part], truth, temperature=fitted
        ).error
        scores[f"{part}/brier"] = brier(logits[part], truth)
    return scores
