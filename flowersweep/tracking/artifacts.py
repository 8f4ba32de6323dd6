"""Files of a run: its configuration, its provenance, and tables about its predictions."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from flowersweep.config.paths import merged
from flowersweep.errors import StudyError
from flowersweep.evaluation.calibration import Reliability, reliability
from flowersweep.evaluation.scores import confusion, per_class
from flowersweep.study.events import StudyStarted
from flowersweep.study.records import TrialRecord
from flowersweep.tracking.masking import masked, masked_diff
from flowersweep.util.arrays import read_arrays
from flowersweep.util.text import spreadsheet_cell

log = logging.getLogger(__name__)

SPLITS = ("tune", "holdout")
PICTURES = ("schedule.svg", "augmentation.jpg")


def write_study(target: Path, study: StudyStarted, folder: Path) -> None:
    """Write the files of the study's own run into ``target``.

    They are the base configuration, the search space, the provenance and the uncommitted changes.
    """
    _write_yaml(target / "config.yaml", study.config)
    _write_yaml(target / "space.yaml", study.space)
    _write_provenance(target, study)
    if study.provenance.get("git_diff") and (folder / "code.diff").exists():
        (target / "code.diff").write_text(masked_diff((folder / "code.diff").read_text()))


def write_trial(target: Path, study: StudyStarted, trial: TrialRecord, folder: Path | None) -> None:
    """Write the files of a trial into ``target``.

    Args:
        target: An existing folder.
        study: The first event of the study.
        trial: The trial's record.
        folder: Where the trial wrote its logits and pictures; None if it wrote none.
    """
    _write_yaml(target / "config.yaml", merged(study.config, trial.settings))
    _write_provenance(target, study)
    if folder is None:
        return
    for picture in PICTURES:
        if (folder / picture).exists():
            (target / picture).symlink_to((folder / picture).resolve())
    if not (folder / "logits.npz").exists():
        return
    try:
        _write_evaluation(
            target / "evaluation",
            folder / "logits.npz",
            study.provenance.get("data", {}).get("classes"),
            # what was trained on is no evidence
            () if study.config.get("data", {}).get("train_on") == "all" else SPLITS,
        )
    except (StudyError, OSError, ValueError, KeyError, IndexError) as error:
        # No retry: a broken file stays broken, and the metrics must not wait for it.
        log.warning("the run of trial %s gets no confusion matrix: %s", trial.number, error)


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    path.write_text(yaml.dump(masked(content), Dumper=dumper, sort_keys=False, allow_unicode=True))


def _write_provenance(target: Path, study: StudyStarted) -> None:
    facts = {"study": study.study, "seed": study.seed, **study.provenance}
    (target / "provenance.json").write_text(json.dumps(masked(facts), indent=1, default=str))


def _write_evaluation(
    target: Path, path: Path, classes: Sequence[str] | None, splits: Sequence[str]
) -> None:
    target.mkdir()
    stored = read_arrays(path)
    for split in splits:
        logits, labels = stored[split], stored[f"{split}_labels"]
        counts = confusion(logits, labels)
        known = classes and len(classes) == len(counts)
        names = classes if classes and known else [*map(str, range(len(counts)))]
        _write_table(
            target / f"confusion_{split}.csv",
            ["true \\ predicted", *names],
            ([name, *row] for name, row in zip(names, counts.tolist(), strict=True)),
        )
        columns = (column.round(4).tolist() for column in per_class(logits, labels))
        _write_table(
            target / f"per_class_{split}.csv",
            ["class", "precision", "recall", "f1", "support"],
            zip(names, *columns, strict=True),
        )
        _write_table(
            target / f"calibration_{split}.csv",
            ["confidence up to", "images", "confidence", "accuracy"],
            _bins(reliability(logits, labels)),
        )
    # whoever uploads the folder follows the link: one copy less
    (target / "logits.npz").symlink_to(path.resolve())


def _bins(bins: Reliability) -> Iterable[Sequence[Any]]:
    rows = np.stack([bins.upper, bins.images, bins.confidence, bins.accuracy], axis=1)
    filled = rows[bins.images > 0].round(4).tolist()
    return ([upper, int(images), *rest] for upper, images, *rest in filled)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(map(spreadsheet_cell, row) for row in rows)
