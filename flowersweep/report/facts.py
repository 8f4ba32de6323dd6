"""What the page says of one study, as data: no HTML and no charts here."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowersweep.evaluation.calibration import calibrated_nll
from flowersweep.evaluation.scores import Labels, Logits, accuracy, confusion, macro_f1, nll, per_class
from flowersweep.evaluation.statistics import Difference
from flowersweep.report.audit import Finding, audit
from flowersweep.report.baseline import baseline
from flowersweep.report.importance import Importance, importances
from flowersweep.report.leakage import leakage
from flowersweep.report.mistakes import Mistake, gallery, keep, stored
from flowersweep.report.noise import Band, band, objective_error, optimism, paired, paired_objective_error
from flowersweep.report.reading import Predictions, Reading
from flowersweep.study.claim import describe_best
from flowersweep.tracking.masking import masked_text

NEXT_BEST = 10  # trials that are compared with the best one
PAIRS = 15  # that are shown of the classes taken for each other
# what a single training does not need of a sweep's command
OF_A_SWEEP = re.compile(r"[+~]*(study=|sweep\.|verb=|progress=|sampler|pruner|engine=|oracle|executor|studies=|output=)")


@dataclass(frozen=True)
class Score:
    """One metric of the best trial on both halves, and the standard error of the gap."""

    name: str
    tune: float
    report: float
    error: float


@dataclass(frozen=True)
class Pair:
    """How often images of one class were taken for another, on the held-out half."""

    true: str
    taken_for: str
    count: int
    of: int


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class on the held-out half."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Facts:
    """Everything the page of one study says."""

    study: Reading
    claim: str
    command: str | None
    band: Band | None
    differences: dict[int, Difference]  # best less another trial, macro F1 on holdout
    importances: list[Importance]
    findings: list[Finding]
    scores: list[Score]
    kept: Predictions | None = None  # of the best trial
    mistakes: list[Mistake] | str = ""  # of the best trial, or why there are none


def facts(study: Reading) -> Facts:
    """Compute what can be said of a study; what its files do not hold is left empty."""
    best = study.best
    kept = study.predictions(best.number) if best else None
    next_best = dict(_next_best(study)) if kept else {}
    errors = [paired_objective_error(study.objective, kept, other) for other in next_best.values()] if kept else []
    differences = {number: paired(kept, other) for number, other in next_best.items()} if kept else {}
    flattery = optimism(study, errors)
    more = [each for each in (baseline(study), leakage(study, kept)) if each is not None]
    return Facts(
        study=study,
        claim=describe_best(study.folder, best if kept else None, len(study.records), study.objective) if kept or not best else UNKNOWN,
        command=command(study),
        band=band(study, errors),
        differences=differences,
        importances=importances(study),
        findings=[*audit(study, differences, flattery), *more],
        scores=scores(kept) if kept else [],
        kept=kept,
        mistakes=mistakes(study) if kept else [],
    )


def mistakes(study: Reading) -> list[Mistake] | str:
    """Return the worst mistakes of the best trial; made now and kept if there are none yet and the images are at hand."""
    if study.best is None:
        return "no trial was completed"
    folder = study.folder / "trials" / str(study.best.number)
    known, kept = stored(folder), study.predictions(study.best.number)
    if known is not None or kept is None:
        return known or []
    found = gallery(kept, study.started.config, study.started.provenance, study.folder.parent.parent / "cache")
    if not isinstance(found, str):
        keep(folder, found)
    return found


UNKNOWN = "the predictions of the best trial are not in the study's folder, so nothing can be said of it on the held-out half"


def _next_best(study: Reading) -> Iterator[tuple[int, Predictions]]:
    for record in study.complete[1 : NEXT_BEST + 1]:
        kept = study.predictions(record.number)
        if kept is not None:
            yield record.number, kept


def command(study: Reading) -> str | None:
    """Return the command that trains the best configuration alone; None if there is none. Secrets in it are masked."""
    best = study.best
    if best is None:
        return None
    begun = shlex.split(study.started.provenance.get("command", ""))[3:]
    words = [word for word in begun if not OF_A_SWEEP.match(word)]
    words += [f"{p.path}={_value(best.params[p.name])}" for p in study.parameters if p.name in best.params]
    return masked_text(shlex.join(["python", "-m", "flowersweep", "train", *words]))


def _value(value: Any) -> str:
    """Write a value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = str(value)
    return text if not isinstance(value, str) or re.fullmatch(r"[\w./:+-]+", text) else "'" + text.replace("'", r"\'") + "'"


def scores(kept: Predictions) -> list[Score]:
    """Score both halves, with the standard errors of the gaps."""
    halves = ((kept.tune, kept.tune_labels), (kept.holdout, kept.holdout_labels))
    found = []
    for name, measure in MEASURES.items():
        tune, report = (measure(logits, labels) for logits, labels in halves)
        errors = [objective_error(name, logits, labels) for logits, labels in halves]
        found.append(Score(name, tune, report, math.hypot(*errors)))
    return found


def _macro_f1(logits: Logits, labels: Labels) -> float:
    return macro_f1(logits, labels, logits.shape[1])


MEASURES: dict[str, Callable[[Logits, Labels], float]] = {
    "macro_f1": _macro_f1,
    "accuracy": accuracy,
    "calibrated_nll": calibrated_nll,
    "nll": nll,
}


def names_of(provenance: Mapping[str, Any], kept: Predictions) -> list[str]:
    """Return the names of the classes; their numbers where they are not known."""
    classes, named = kept.holdout.shape[1], provenance.get("data", {}).get("classes") or []
    return [str(name) for name in named] if len(named) == classes else [str(index) for index in range(classes)]


def pairs(kept: Predictions, names: Sequence[str]) -> list[Pair]:
    """Return the classes that are most often taken for each other on the held-out half."""
    counts = confusion(kept.holdout, kept.holdout_labels)
    support = counts.sum(axis=1)
    wrong = counts - np.diag(np.diag(counts))
    ranked = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    places = (divmod(int(flat), len(counts)) for flat in ranked)
    return [Pair(names[t], names[p], int(wrong[t, p]), int(support[t])) for t, p in places if wrong[t, p]]


def class_scores(kept: Predictions, names: Sequence[str]) -> list[ClassScore]:
    """Return the classes that the held-out half has, the worst first."""
    columns = [column.tolist() for column in per_class(kept.holdout, kept.holdout_labels)]
    all_classes = [ClassScore(*row) for row in zip(names, *columns, strict=True)]
    return sorted((each for each in all_classes if each.support), key=lambda each: (each.f1, -each.support))
