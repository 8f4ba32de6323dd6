"""What the simplest models reach on the features of a sweep."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import numpy as np

from flowersweep.evaluation.calibration import calibrated_nll
from flowersweep.evaluation.scores import Labels, Logits

PENALTIES = (1e-2, 1e-3, 1e-4)  # l2 of the mean loss, for features of length 20
LARGEST = 4_000_000_000  # images x features x classes; a fit of more takes minutes
STEPS = 60  # of L-BFGS: scores no longer change


def simple_baselines(
    features: Mapping[str, np.ndarray], labels: Mapping[str, Labels], classes: int
) -> dict[str, Logits]:
    """Return the logits (n, classes) on the holdout of models fitted on train.

    Args:
        features: float32 (n, D) of train, tune and holdout.
        labels: Class numbers (n,) of train and tune.

    Returns:
        The most frequent class, the nearest centroid, and a logistic regression, whose penalty is
        the best of three by the likelihood of tune; without it where a fit would take minutes.
    """
    train, holdout = features["train"], features["holdout"]
    counts = np.bincount(labels["train"], minlength=classes)
    frequent = np.tile(np.log(np.maximum(counts, 1e-3)), (len(holdout), 1))
    centroids = np.full((classes, train.shape[1]), np.inf)
    for number in np.flatnonzero(counts):
        centroids[number] = train[labels["train"] == number].mean(axis=0)
    baselines = {"most frequent class": frequent, "nearest centroid": _near(holdout, centroids)}
    if train.size * classes <= LARGEST and (counts > 0).sum() > 1:
        fits = [*_regressions(features, labels, classes)]
        baselines["logistic regression"] = min(
            fits, key=lambda fit: calibrated_nll(fit[0], labels["tune"])
        )[1]
    return {name: logits.astype(np.float32) for name, logits in baselines.items()}


def _near(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return minus half the squared distances; very small where a class has no centroid."""
    known = np.isfinite(centroids[:, 0])
    distances = np.full((len(rows), len(centroids)), -1e4)
    known_centroids = centroids[known]
    distances[:, known] = rows @ known_centroids.T - np.square(known_centroids).sum(axis=1) / 2
    return distances


def _regressions(
    features: Mapping[str, np.ndarray], labels: Mapping[str, Labels], classes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the logits on tune and holdout for each penalty."""
    from sklearn.linear_model import LogisticRegression

    for penalty in PENALTIES:
        model = LogisticRegression(C=1 / (penalty * len(labels["train"])), max_iter=STEPS, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not to the last digit
            model.fit(features["train"], labels["train"])
        yield (
            _logits(model, features["tune"], classes),
            _logits(model, features["holdout"], classes),
        )


def _logits(model: object, rows: np.ndarray, classes: int) -> np.ndarray:
    logits = np.full((len(rows), classes), -1e4)
    logits[:, model.classes_] = np.log(  # type: ignore[attr-defined]
        np.maximum(model.predict_proba(rows), 1e-12)  # type: ignore[attr-defined]
    )
    return logits
