"""The files of a run: its whole configuration, where it came from, and what its predictions confuse."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import yaml

from flowersweep.evaluation.calibration import Reliability, reliability
from flowersweep.evaluation.scores import Counts, confusion, per_class
from flowersweep.study.journal import Event
from flowersweep.tracking.masking import masked, masked_diff

log = logging.getLogger(__name__)

SPLITS = ("tune", "holdout")
PICTURES = ("schedule.svg", "augmentation.jpg")


def write_study(target: Path, study: Event, folder: Path) -> None:
    """Write the files of the study's own run into ``target``: base configuration, search space, provenance, changes of the code."""
    _write_yaml(target / "config.yaml", study.get("config", {}))
    _write_yaml(target / "space.yaml", study.get("space", {}))
    _write_provenance(target, study)
    if study.get("provenance", {}).get("git_diff") and (folder / "code.diff").exists():
        (target / "code.diff").write_text(masked_diff((folder / "code.diff").read_text()))


def write_trial(target: Path, study: Event, ask: Event, folder: Path | None) -> None:
    """Write the files of a trial into ``target``; ``folder`` is where it left logits and pictures, if it left any."""
    _write_yaml(target / "config.yaml", merged(study.get("config", {}), ask.get("settings", {})))
    _write_provenance(target, study)
    if folder is None:
        return
    for picture in PICTURES:
        if (folder / picture).exists():
            (target / picture).symlink_to((folder / picture).resolve())
    if not (folder / "logits.npz").exists():
        return
    try:
        _write_evaluation(target / "evaluation", folder / "logits.npz", study.get("provenance", {}).get("data", {}).get("classes"))
    except (OSError, ValueError, KeyError, IndexError, BadZipFile) as error:
        # Never retried: a file that cannot be read now will not be readable later, and the metrics must not wait for it.
        log.warning("%s cannot be read (%s): the run of trial %s gets no confusion matrix", folder / "logits.npz", error, ask["trial"])


def merged(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``config`` with dotted paths set: ``merged({"a": {"b": 1}}, {"a.b": 2}) == {"a": {"b": 2}}``.

    Where the settings choose another option of a group, None means that the option has no such key: what is left empty by it goes too.
    """
    whole = deepcopy(dict(config))
    for path, value in settings.items():
        *parents, last = path.split(".")
        chain = [whole]
        for name in parents:
            if not isinstance(chain[-1].get(name), dict):
                chain[-1][name] = {}
            chain.append(chain[-1][name])
        chain[-1][last] = value
        if value is None and any(f"{parents[0]}.{key}" in settings for key in ("name", "_target_")):
            del chain[-1][last]
            for depth in range(len(parents) - 1, 0, -1):  # up to the group, whose own keys are there in every option
                if any(inner is not None for inner in chain[depth + 1].values()):
                    break
                if depth > 1:
                    del chain[depth][parents[depth]]
                else:
                    chain[depth][parents[depth]] = None
    return whole


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    path.write_text(yaml.dump(masked(content), Dumper=dumper, sort_keys=False, allow_unicode=True))


def _write_provenance(target: Path, study: Event) -> None:
    facts = {"study": study["study"], "seed": study.get("seed"), **study.get("provenance", {})}
    (target / "provenance.json").write_text(json.dumps(masked(facts), indent=1, default=str))


def _write_evaluation(target: Path, logits: Path, classes: Sequence[str] | None) -> None:
    target.mkdir()
    with np.load(logits, allow_pickle=False) as stored:
        for split in SPLITS:
            counts = confusion(stored[split], stored[f"{split}_labels"])
            names = classes if classes and len(classes) == len(counts) else [str(index) for index in range(len(counts))]
            _write_table(target / f"confusion_{split}.csv", ["true \\ predicted", *names], _confusion_rows(names, counts))
            _write_table(target / f"per_class_{split}.csv", ["class", "precision", "recall", "f1", "support"], _class_rows(names, counts))
            found = reliability(stored[split], stored[f"{split}_labels"])
            _write_table(target / f"calibration_{split}.csv", ["confidence up to", "images", "confidence", "accuracy"], _bins(found))
    (target / "logits.npz").symlink_to(logits.resolve())  # whoever uploads the folder follows it: one copy less


def _confusion_rows(names: Sequence[str], counts: Counts) -> Iterable[Sequence[Any]]:
    return ([name, *row] for name, row in zip(names, counts.tolist(), strict=True))


def _class_rows(names: Sequence[str], counts: Counts) -> Iterable[Sequence[Any]]:
    scores = per_class(counts)
    rounded = (scores.precision.round(4).tolist(), scores.recall.round(4).tolist(), scores.f1.round(4).tolist(), scores.support.tolist())
    return zip(names, *rounded, strict=True)


def _bins(found: Reliability) -> Iterable[Sequence[Any]]:
    rows = np.stack([found.upper, found.images, found.confidence, found.accuracy], axis=1)[found.images > 0]
    return ([upper, int(images), *rest] for upper, images, *rest in rows.round(4).tolist())


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
