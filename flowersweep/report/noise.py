"""How much of a difference is chance: standard errors from the images, paired where two models saw the same ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from flowersweep.evaluation.calibration import temperature
from flowersweep.evaluation.scores import Labels, Logits, below_largest, macro_f1
from flowersweep.report.reading import Predictions, Reading

Rows = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
SAMPLES = 500


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another on the same images, with its standard error and 95 % interval."""

    value: float
    error: float
    low: float
    high: float

    @property
    def resolved(self) -> bool:
        """Whether it is at least two standard errors from nothing."""
        return abs(self.value) >= 2 * self.error and self.error > 0


@dataclass(frozen=True)
class Band:
    """The standard error of a difference between two trials in the objective, and where it comes from."""

    error: float
    source: str


def resampled(labels: Labels, samples: int = SAMPLES, seed: int = 0) -> Rows:
    """Return rows (samples, n) drawn with replacement within each class (Efron & Tibshirani 1993, ch. 13)."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts, sizes = np.repeat(np.cumsum(counts) - counts, counts), np.repeat(counts, counts)
    drawn = np.random.default_rng(seed).random((samples, len(labels)))
    chosen: Rows = order[starts + (drawn * sizes).astype(np.int64)]
    return chosen


def macro_f1_of_samples(predicted: Labels, labels: Labels, classes: int, rows: Rows) -> Reals:
    """Return the macro F1 (samples,) of predictions (n,) in each row of images, as ``scores.macro_f1`` has it."""
    shift = np.arange(len(rows))[:, None] * classes
    size = len(rows) * classes

    def counted(values: Rows) -> Rows:
        return np.bincount(values.ravel(), minlength=size).reshape(len(rows), classes)

    true, guess = labels[rows].astype(np.int64), predicted[rows].astype(np.int64)
    right = np.bincount((shift + true)[true == guess], minlength=size).reshape(len(rows), classes)
    both = counted(shift + true) + counted(shift + guess)
    f1: Reals = (2 * right / np.maximum(both, 1)).sum(axis=1) / (both > 0).sum(axis=1)
    return f1


def interval(kept: Predictions) -> tuple[float, float]:
    """Return the 95 % percentile interval of the macro F1 on the report half."""
    samples = macro_f1_of_samples(kept.report.argmax(axis=1), kept.report_labels, kept.report.shape[1], resampled(kept.report_labels))
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def paired(first: Predictions, second: Predictions) -> Difference:
    """Return how much higher the macro F1 of the first is on the report half, both resampled with the same images."""
    labels, classes = first.report_labels, first.report.shape[1]
    rows = resampled(labels)
    samples = [macro_f1_of_samples(each.report.argmax(axis=1), labels, classes, rows) for each in (first, second)]
    value = macro_f1(first.report, labels, classes) - macro_f1(second.report, labels, classes)
    low, high = np.percentile(samples[0] - samples[1], [2.5, 97.5])
    return Difference(value, float(np.std(samples[0] - samples[1])), float(low), float(high))


def objective_error(objective: str, logits: Logits, labels: Labels) -> float:
    """Return the standard error of the objective of logits (n, K), by the images alone."""
    if objective.endswith("macro_f1"):
        return float(np.std(macro_f1_of_samples(logits.argmax(axis=1), labels, logits.shape[1], resampled(labels))))
    return float(np.std(_each(objective, logits, labels)) / np.sqrt(len(labels)))


def paired_objective_error(objective: str, first: Predictions, second: Predictions) -> float:
    """Return the standard error of the difference of two models' objectives on the tune half."""
    labels, classes = first.tune_labels, first.tune.shape[1]
    if objective.endswith("macro_f1"):
        rows = resampled(labels)
        one, two = (macro_f1_of_samples(each.tune.argmax(axis=1), labels, classes, rows) for each in (first, second))
        return float(np.std(one - two))
    one, two = (_each(objective, each.tune, labels) for each in (first, second))
    return float(np.std(one - two) / np.sqrt(len(labels)))


def _each(objective: str, logits: Logits, labels: Labels) -> Reals:
    """What each image (n,) adds to the mean that the objective is: its loss in nats, or whether it was a hit."""
    if objective.endswith("accuracy"):
        hits: Reals = (logits.argmax(axis=1) == labels).astype(np.float64)
        return hits
    # the temperature is fitted, so a small change of it changes nothing in first order
    wide = below_largest(logits, np.float64) / (temperature(logits, labels) if objective.endswith("calibrated_nll") else 1.0)
    losses: Reals = np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(len(labels)), labels]
    return losses


def band(study: Reading, errors: Sequence[float]) -> Band | None:
    """Return how much trials differ by chance: from replicas of one configuration, else from the images of tune.

    ``errors``: standard errors of differences between trials on the same images, where two trials left their predictions.
    """
    values = _replicas(study)
    freedom = sum(len(group) - 1 for group in values)
    if freedom >= 2:
        error = np.sqrt(2 * sum(np.var(group) * len(group) for group in values) / freedom)
        return Band(float(error), f"{freedom + len(values)} trainings of configurations that were trained with several seeds")
    images = "the images of the tune half; no configuration was trained with several seeds, which would add to it"
    if errors:
        return Band(float(np.median(errors)), f"a paired comparison of the best trials on {images}")
    best = study.best
    kept = study.predictions(best.number) if best else None
    return Band(objective_error(study.objective, kept.tune, kept.tune_labels), images) if kept else None


def _replicas(study: Reading) -> list[Sequence[float]]:
    """Groups of values of trials that differ in their seed alone."""
    seeds = {p.name for p in study.parameters if p.path == "seed"}
    groups: dict[str, list[float]] = defaultdict(list)
    for record in study.complete:
        groups[repr(sorted((k, v) for k, v in record.params.items() if k not in seeds))].append(float(record.value or 0))
    return [group for group in groups.values() if len(set(group)) > 1]


def expected_best_of(number: int) -> float:
    """Return the expected largest of so many standard normal draws (Blom 1958)."""
    return NormalDist().inv_cdf((number - 0.375) / (number + 0.25)) if number > 1 else 0.0


def optimism(study: Reading, errors: Sequence[float]) -> float | None:
    """Return by how much the best value of the objective flatters, were all complete trials equally good.

    ``errors``: standard errors of differences between trials on the same images. One trial alone varies by 1/sqrt(2) of that.
    """
    return expected_best_of(len(study.complete)) * float(np.median(errors) / np.sqrt(2)) if errors else None
