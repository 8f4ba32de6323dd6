"""The scores that a trial ends with: more of them than after every epoch, and what is fitted is fitted on tune alone."""

from __future__ import annotations

from collections.abc import Mapping

from flowersweep.evaluation.calibration import brier, reliability, temperature
from flowersweep.evaluation.scores import Labels, Logits, accuracy, macro_f1, nll


def final_scores(logits: Mapping[str, Logits], labels: Mapping[str, Labels]) -> dict[str, float]:
    """Return the scores of tune and holdout, from logits (n, K) and labels (n,) by part.

    The calibrated scores of both are at the temperature of tune: one that report had chosen would flatter it.
    """
    fitted = temperature(logits["tune"], labels["tune"])
    scores = {"tune/temperature": fitted}
    for part, truth in labels.items():
        scores |= {
            f"{part}/calibrated_nll": nll(logits[part], truth, fitted),
            f"{part}/nll": nll(logits[part], truth),
            f"{part}/accuracy": accuracy(logits[part], truth),
            f"{part}/macro_f1": macro_f1(logits[part], truth, logits[part].shape[1]),
            f"{part}/ece": reliability(logits[part], truth).error,
            f"{part}/calibrated_ece": reliability(logits[part], truth, temperature=fitted).error,
            f"{part}/brier": brier(logits[part], truth),
        }
    return scores
