"""What a study did not have to train: pruned epochs, and results of equal trainings."""

from __future__ import annotations

from statistics import median

from flowersweep.report.study_view import StudyView
from flowersweep.util.text import duration, quantity


def savings(study: StudyView) -> dict[str, tuple[str, str]]:
    """Return boxes of numbers; none before a trial is complete.

    A pruned trial would have trained as many epochs as the median complete one, at the median
    seconds of an epoch.
    """
    trained = [r for r in study.complete if r.reused is None and r.curve]
    if not trained:
        return {}
    epochs = median(max(r.curve) for r in trained)
    seconds = median((r.span[1] - r.span[0]) / max(r.curve) for r in trained)
    pruned = [r for r in study.records if r.state == "pruned" and r.reused is None]
    spared = sum(max(epochs - max(r.curve, default=0), 0) for r in pruned)
    reused = [r for r in study.records if r.reused is not None]
    boxes = {}
    if spared:
        remark = f"{spared:.0f} epochs of {quantity(len(pruned), 'trial')}"
        boxes["Saved by pruning"] = (duration(spared * seconds), remark)
    if reused:
        boxes["Saved by reuse"] = (
            duration(len(reused) * epochs * seconds),
            f"of {quantity(len(reused), 'trial')} that was trained before",
        )
    return boxes
