"""How much of a difference is chance: standard errors over the images, paired where possible."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowersweep.evaluation import selection
from flowersweep.evaluation.calibration import temperature
from flowersweep.evaluation.scores import Labels, Logits, Reals, log_likelihoods
from flowersweep.evaluation.statistics import Difference, compare, macro_f1_of, resampled
from flowersweep.report.study_view import Predictions, StudyView
from flowersweep.study.records import TrialRecord

SAMPLES = 500


@dataclass(frozen=True)
class NoiseLevel:
    """The standard error of a difference of the objective between two trials, and its source."""

    error: float
    source: str


def paired(first: Predictions, second: Predictions) -> Difference:
    """Return how much higher the macro F1 of the first is on the holdout.

    Both are resampled with the same images.
    """
    return compare(first.holdout, second.holdout, first.holdout_labels, samples=SAMPLES)["macro_f1"]


def objective_error(objective: str, logits: Logits, labels: Labels) -> float:
    """Return the standard error of the objective of logits (n, K), by the images alone."""
    if objective.endswith("macro_f1"):
        return float(np.std(_macro_f1_samples(logits, labels)))
    return float(np.std(_each(objective, logits, labels)) / np.sqrt(len(labels)))


def paired_objective_error(objective: str, first: Predictions, second: Predictions) -> float:
    """Return the standard error of the difference of two models' objectives on the tune half."""
    labels = first.tune_labels
    if objective.endswith("macro_f1"):
        return float(
            np.std(_macro_f1_samples(first.tune, labels) - _macro_f1_samples(second.tune, labels))
        )
    one, two = (_each(objective, each.tune, labels) for each in (first, second))
    return float(np.std(one - two) / np.sqrt(len(labels)))


def _macro_f1_samples(logits: Logits, labels: Labels) -> Reals:
    return macro_f1_of(logits.argmax(axis=1), labels, logits.shape[1])(
        resampled(labels, SAMPLES, 0)
    )


def _each(objective: str, logits: Logits, labels: Labels) -> Reals:
    """Return what each image adds to the objective, (n,): its loss, or whether it is right."""
    if objective.endswith("accuracy"):
        hits: Reals = (logits.argmax(axis=1) == labels).astype(np.float64)
        return hits
    # the temperature is fitted, so a small change of it changes nothing in first order
    return -log_likelihoods(
        logits, labels, temperature(logits, labels) if objective.endswith("calibrated_nll") else 1.0
    )


def noise_level(study: StudyView, errors: Sequence[float]) -> NoiseLevel | None:
    """Return how much trials differ by chance.

    It comes from repeats of one configuration, else from the images of tune.

    ``errors``: standard errors of differences between trials on the same images, where two trials
    left their predictions.
    """
    values = _replicas(study)
    freedom = sum(len(group) - 1 for group in values)
    if freedom >= 2:
        error = np.sqrt(2 * sum(np.var(group) * len(group) for group in values) / freedom)
        return NoiseLevel(
            float(error),
            (
                f"{freedom + len(values)} trainings of configurations that were trained with "
                "several seeds"
            ),
        )
    images = (
        "the images of tune; no configuration was trained with several seeds, which would add to it"
    )
    if errors:
        return NoiseLevel(
            float(np.median(errors)), f"a paired comparison of the best trials on {images}"
        )
    best = study.best
    predictions = study.predictions(best.number) if best else None
    return (
        NoiseLevel(
            objective_error(study.objective, predictions.tune, predictions.tune_labels), images
        )
        if predictions
        else None
    )


def _replicas(study: StudyView) -> list[list[float]]:
    """Return the values of trials that trained the same with different seeds, by what they trained.

    A trial that took the result of an earlier one trained nothing. Groups whose values agree count:
    leaving them out would make the pooled variance too large.
    """
    seeds = {p.name for p in study.parameters if p.path == "seed"}
    groups: dict[str, list[float]] = defaultdict(list)
    for record in study.complete:
        if record.reused is None and record.value is not None:
            groups[_training(record, seeds)].append(record.value)
    return [values for values in groups.values() if len(values) > 1]


def _training(record: TrialRecord, seeds: set[str]) -> str:
    """Return what a trial trained but for its seed, unless the seed is searched."""
    if record.identity is not None and not seeds & record.params.keys():
        return record.identity
    return repr(sorted((name, value) for name, value in record.params.items() if name not in seeds))


def optimism(study: StudyView, errors: Sequence[float]) -> float | None:
    """Return by how much the best value flatters if all complete trials are equally good.

    ``errors``: standard errors of differences between trials on the same images. One trial alone
    varies by 1/sqrt(2) of that.
    """
    return (
        selection.expected_max_bias(len(study.complete), float(np.median(errors) / np.sqrt(2)))
        if errors
        else None
    )
