"""What the simplest models reach on the features of a sweep."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from threadpoolctl import threadpool_limits

from flowersweep.evaluation.calibration import calibrated_nll
from flowersweep.evaluation.scores import Labels, Logits

PENALTIES = (1e-2, 1e-3, 1e-4)  # l2 of the mean loss, for features of length 20
LARGEST = 4_000_000_000  # images x features x classes; a fit of more takes minutes
STEPS = 60  # of L-BFGS: scores no longer change


def simple_baselines(
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, Labels],
    classes: int,
    *,
    fold_of: np.ndarray | None = None,
) -> dict[str, Logits]:
    """Return the logits (n, classes) on the holdout of models fitted on train.

    Args:
        features: float32 (n, D) of train, tune and holdout.
        labels: Class numbers (n,) of train and tune.
        fold_of: The fold of each image of train (n,), where tune is a part of it; -1: of none.

    Returns:
        The most frequent class, the nearest centroid, and a logistic regression, whose penalty is
        the best of three by the likelihood of tune, or of the folds; without it where a fit would
        take minutes.
    """
    train, holdout = features["train"], features["holdout"]
    counts = np.bincount(labels["train"], minlength=classes)
    frequent = np.tile(np.log(np.maximum(counts, 1e-3)), (len(holdout), 1))
    centroids = np.full((classes, train.shape[1]), np.inf)
    for number in np.flatnonzero(counts):
        centroids[number] = train[labels["train"] == number].mean(axis=0)
    baselines = {"most frequent class": frequent, "nearest centroid": _near(holdout, centroids)}
    if train.size * classes <= LARGEST and (counts > 0).sum() > 1:
        baselines["logistic regression"] = _regression(features, labels, classes, fold_of)
    return {name: logits.astype(np.float32) for name, logits in baselines.items()}


def _near(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return minus half the squared distances; very small where a class has no centroid."""
    known = np.isfinite(centroids[:, 0])
    distances = np.full((len(rows), len(centroids)), -1e4)
    known_centroids = centroids[known]
    distances[:, known] = rows @ known_centroids.T - np.square(known_centroids).sum(axis=1) / 2
    return distances


def _regression(
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, Labels],
    classes: int,
    fold_of: np.ndarray | None,
) -> np.ndarray:
    """Return the holdout's logits with the penalty that is best on images not fitted on."""
    rows, known, holdout = features["train"], labels["train"], features["holdout"]
    if fold_of is None:
        tune = features["tune"]
        others = np.concatenate([tune, holdout])
        fits = [fit_regression(penalty, rows, known, others, classes) for penalty in PENALTIES]
        best = min(fits, key=lambda fit: calibrated_nll(fit[: len(tune)], labels["tune"]))
        return best[len(tune) :]
    penalty = min(
        PENALTIES, key=lambda candidate: _fold_loss(candidate, rows, known, classes, fold_of)
    )
    return fit_regression(penalty, rows, known, holdout, classes)


def _fold_loss(
    penalty: float, rows: np.ndarray, known: Labels, classes: int, fold_of: np.ndarray
) -> float:
    """Return the calibrated NLL of a penalty on folds that the regression was not fitted on."""
    logits = np.empty((len(rows), classes))
    judged = fold_of >= 0
    for fold in np.unique(fold_of[judged]):
        own = fold_of == fold
        logits[own] = fit_regression(penalty, rows[~own], known[~own], rows[own], classes)
    return calibrated_nll(logits[judged], known[judged])


def fit_regression(
    penalty: float, rows: np.ndarray, labels: Labels, others: np.ndarray, classes: int
) -> np.ndarray:
    """Return the logits (n, classes) of ``others`` by a regression on ``rows``."""
    from sklearn.linear_model import LogisticRegression

    known = np.unique(labels)
    logits = np.full((len(others), classes), -1e4)
    if len(known) == 1:
        logits[:, known] = 0.0
        return logits
    model = LogisticRegression(C=1 / (penalty * len(labels)), max_iter=STEPS, tol=1e-3)
    # one thread: more of them wait for each other, and add up in another order
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not to the last digit
        model.fit(rows, labels)
    logits[:, model.classes_] = np.log(np.maximum(model.predict_proba(others), 1e-12))
    return logits
