"""What the page says of one study, as data: no HTML and no charts here."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowersweep.config.keys import key_of, role_of
from flowersweep.config.setting import LABEL, PLACE, TRAINED
from flowersweep.config.words import as_word
from flowersweep.evaluation.calibration import calibrated_nll
from flowersweep.evaluation.scores import (
    Labels,
    Logits,
    accuracy,
    confusion,
    macro_f1,
    nll,
    per_class,
)
from flowersweep.evaluation.statistics import Difference
from flowersweep.report.checks.audit import AuditItem, audit
from flowersweep.report.checks.baseline import baseline
from flowersweep.report.checks.importance import Importance, importances
from flowersweep.report.checks.leakage import leakage
from flowersweep.report.checks.noise import (
    NoiseLevel,
    noise_level,
    objective_error,
    optimism,
    paired,
    paired_objective_error,
)
from flowersweep.report.mistakes import Mistake, gallery, keep, stored
from flowersweep.report.simple_models import finding, simple_models
from flowersweep.report.study_view import Predictions, StudyView
from flowersweep.study.baselines import BaselineScore
from flowersweep.study.records import TrialRecord
from flowersweep.study.sentences import describe_best
from flowersweep.tracking.masking import masked_text

NEXT_BEST = 10  # trials that are compared with the best one
PAIRS = 15  # of classes taken for each other
UNKNOWN = (
    "the predictions of the best trial are not in the study's folder, so nothing can be said of "
    "it on the held-out half"
)


@dataclass(frozen=True)
class Score:
    """One metric of the best trial on both halves, and the standard error of the gap."""

    name: str
    tune: float
    holdout: float
    error: float


@dataclass(frozen=True)
class ConfusedPair:
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
class StudySummary:
    """Everything the page of one study says."""

    study: StudyView
    claim: str
    command: str | None
    noise: NoiseLevel | None
    differences: dict[int, Difference]  # best minus another trial, macro F1 on holdout
    importances: list[Importance]
    audit_items: list[AuditItem]
    scores: list[Score]
    predictions: Predictions | None = None  # of the best trial
    mistakes: list[Mistake] | str = ""  # of the best trial, or why there are none
    simple_models: list[BaselineScore] = field(default_factory=list)  # next to the best trial


def summarise(study: StudyView) -> StudySummary:
    """Compute what can be said of a study; what its files do not hold is left empty."""
    best = study.best
    predicted = study.predictions(best.number) if best else None
    next_best = dict(_next_best(study)) if predicted else {}
    errors, differences = [], {}
    if predicted is not None:
        for number, other in next_best.items():
            errors.append(paired_objective_error(study.objective, predicted, other))
            differences[number] = paired(predicted, other)
    baselines = simple_models(study, predicted)
    checks = (finding(baselines), baseline(study), leakage(study, predicted))
    more = [item for item in checks if item is not None]
    return StudySummary(
        study=study,
        claim=_claim(study, predicted),
        command=train_command(study),
        noise=noise_level(study, errors),
        differences=differences,
        importances=importances(study),
        audit_items=[*audit(study, differences, optimism(study, errors)), *more],
        scores=score_halves(predicted) if predicted else [],
        predictions=predicted,
        mistakes=worst_mistakes(study) if predicted else [],
        simple_models=baselines,
    )


def _claim(study: StudyView, predicted: Predictions | None) -> str:
    if study.best is not None and predicted is None:
        return UNKNOWN
    return describe_best(study.folder, study.best, len(study.records), study.objective)


def worst_mistakes(study: StudyView, *, named: str | None = None) -> list[Mistake] | str:
    """Return the worst mistakes of the best trial; drawn and kept if the images are at hand.

    ``named`` is the address of images that the command has named.
    """
    if study.best is None:
        return "no trial was completed"
    folder = study.folder / "trials" / str(study.best.number)
    known, predicted = stored(folder), study.predictions(study.best.number)
    if known is not None or predicted is None:
        return known or []
    started, cache = study.started, study.folder.parent.parent / "cache"
    mistakes = gallery(predicted, started.config, started.provenance, cache, named=named)
    if not isinstance(mistakes, str):
        keep(folder, mistakes)
    return mistakes


def _next_best(study: StudyView) -> Iterator[tuple[int, Predictions]]:
    for record in study.complete[1 : NEXT_BEST + 1]:
        predicted = study.predictions(record.number)
        if predicted is not None:
            yield record.number, predicted


def train_command(study: StudyView) -> str | None:
    """Return the command that trains the best trial again, with its seed; None without a best
    trial.

    Secrets in it are masked.
    """
    best = study.best
    if best is None:
        return None
    words = [word for word in study.started.overrides if _is_of_training(key_of(word))]
    searched = {p.path: best.params[p.name] for p in study.parameters if p.name in best.params}
    settings = {**searched, "seed": _seed(study, best, searched)}
    words += [f"{path}={as_word(value)}" for path, value in settings.items()]
    return masked_text(shlex.join(["python", "-m", "flowersweep", "train", *words]))


def _seed(study: StudyView, record: TrialRecord, searched: Mapping[str, Any]) -> Any:
    """Return the seed that a trial was trained with: a repeat has one of its own."""
    if record.seed is not None:
        return record.seed
    return searched.get("seed", study.started.seed)


def score_halves(predicted: Predictions) -> list[Score]:
    """Score both halves, with the standard errors of the gaps."""
    tune, holdout = (
        (predicted.tune, predicted.tune_labels),
        (predicted.holdout, predicted.holdout_labels),
    )
    scores = []
    for name, measure in MEASURES.items():
        error = math.hypot(objective_error(name, *tune), objective_error(name, *holdout))
        scores.append(Score(name, measure(*tune), measure(*holdout), error))
    return scores


def _macro_f1(logits: Logits, labels: Labels) -> float:
    return macro_f1(logits, labels, logits.shape[1])


MEASURES: dict[str, Callable[[Logits, Labels], float]] = {
    "macro_f1": _macro_f1,
    "accuracy": accuracy,
    "calibrated_nll": calibrated_nll,
    "nll": nll,
}


def class_names(provenance: Mapping[str, Any], predicted: Predictions) -> list[str]:
    """Return the names of the classes; their numbers where they are not known."""
    classes, names = predicted.holdout.shape[1], provenance.get("data", {}).get("classes") or []
    return (
        [str(name) for name in names] if len(names) == classes else [str(n) for n in range(classes)]
    )


def confused_pairs(predicted: Predictions, names: Sequence[str]) -> list[ConfusedPair]:
    """Return the classes that are most often taken for each other on the held-out half."""
    counts = confusion(predicted.holdout, predicted.holdout_labels)
    support = counts.sum(axis=1)
    wrong = counts - np.diag(np.diag(counts))
    ranked = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    cells = (divmod(int(flat), len(counts)) for flat in ranked)
    return [
        ConfusedPair(names[t], names[p], int(wrong[t, p]), int(support[t]))
        for t, p in cells
        if wrong[t, p]
    ]


def score_classes(predicted: Predictions, names: Sequence[str]) -> list[ClassScore]:
    """Return the scores of the classes that the held-out half has, the worst first."""
    columns = per_class(predicted.holdout, predicted.holdout_labels)
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    present = [row for row in (ClassScore(*row) for row in rows) if row.support]
    return sorted(present, key=lambda row: (row.f1, -row.support))


def _is_of_training(key: str) -> bool:
    """Say whether a key means something to a single training: what it trains, and where.

    ``+sweep=NAME`` may set both.
    """
    return key == "sweep" or (key != "seed" and role_of(key) in (TRAINED, LABEL, PLACE))
