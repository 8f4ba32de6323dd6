"""Whether held-out images were held out: near-duplicates between the parts of the data, and what
they do to the score.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowersweep.config.schema import Data
from flowersweep.evaluation.scores import macro_f1
from flowersweep.report.checks.audit import AuditItem
from flowersweep.report.study_view import Predictions, StudyView

if TYPE_CHECKING:
    from flowersweep.data.duplicates import Duplicates

# images that are read for a page alone, at a millisecond each; `data` reads any number
LARGEST = 50_000


def leakage(study: StudyView, predictions: Predictions | None) -> AuditItem | None:
    """Return what near-duplicates mean for a study; None if it does not say which images it saw."""
    data = study.started.provenance.get("data", {})
    if not data.get("dir"):
        return None
    cache = study.folder.resolve().parents[1] / "cache"
    duplicates = None
    if Path(data["dir"]).is_dir():
        from flowersweep.data.duplicates import of_study  # TensorFlow: seconds

        # of the extra images, none that is nearly one held out was trained on
        recorded = {
            **study.started.config.get("data", {}),
            "dir": data["dir"],
            "extra": [],
            "pseudo_labels": None,
        }
        digest = str(data.get("held_out_digest") or data.get("digest"))
        duplicates = of_study(Data(**recorded), digest, cache, largest=LARGEST)
    if duplicates is None:
        return AuditItem(
            "note",
            "Near-duplicate images were not searched for",
            f"The images of this study are not in {data['dir']}, or too many to read.",
        )
    return finding(duplicates, predictions)


def finding(duplicates: Duplicates, predictions: Predictions | None) -> AuditItem:
    """Say what was found, and what the best trial scores without the images that leaked."""
    from flowersweep.data.duplicates import describe

    leaked, rest = duplicates.leaked(), describe(duplicates)
    if not leaked.any():
        return AuditItem(
            "note",
            "No held-out image is nearly the same as one of train or tune",
            f"By hash; {rest}.",
        )
    title = (
        f"{leaked.sum()} of {len(leaked)} held-out images are nearly the same as one of train or "
        "tune"
    )
    text = ""
    if predictions is not None and len(predictions.holdout_labels) == len(leaked):
        scores = [
            macro_f1(
                predictions.holdout[rows],
                predictions.holdout_labels[rows],
                predictions.holdout.shape[1],
            )
            for rows in (np.ones_like(leaked), ~leaked)
        ]
        text = (
            f"The best trial has a macro F1 of {scores[0]:.4f} on all {len(leaked)} images and of "
            f"{scores[1]:.4f} on the "
            f"{(~leaked).sum()} that are new: {scores[0] - scores[1]:+.4f} comes from the others. "
        )
    return AuditItem("warning", title, f"{text}By hash; {rest}.")
