"""Find labels that are likely wrong: confident learning (Northcutt et al. 2021)."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from flowersweep.evaluation.calibration import probabilities, temperature
from flowersweep.evaluation.scores import Labels, Logits, Reals
from flowersweep.evaluation.simple_baselines import fit_regression

FOLDS = 5
PENALTY = 1e-3  # l2 of the mean loss
LENGTH = 20.0  # that features are brought to
MOST_COMPONENTS, FEWEST_COMPONENTS = 256, 32  # principal ones, of the features
LARGEST = 800_000_000  # images x components x classes: half a minute


class LabelIssue(NamedTuple):
    """An image whose label is likely wrong."""

    row: int
    suggested: int  # class
    probability: float  # of the suggested class
    given: float  # probability of the class that the image has


def out_of_fold_probabilities(
    features: np.ndarray, labels: Labels, classes: int, *, seed: int = 0
) -> Reals | None:
    """Return how likely each class is for each image, by heads that have not seen it.

    A head is a logistic regression on principal components of the features; the probabilities
    (n, classes) are at the temperature that fits the labels best.

    Args:
        features: Of a frozen backbone (n, D).
        labels: Class numbers (n,).
        classes: Their number.
        seed: Of the division into `FOLDS` folds, which is stratified.

    Returns:
        None if that would take minutes.
    """
    if len(labels) * classes * FEWEST_COMPONENTS > LARGEST:
        return None
    # the same digits on every run, and faster where other programs run too
    with threadpool_limits(1):
        logits = _out_of_fold(features, labels, classes, seed)
    return probabilities(logits, temperature(logits, labels))


def _out_of_fold(features: np.ndarray, labels: Labels, classes: int, seed: int) -> Logits:
    rows = _principal(features, LARGEST // (len(labels) * classes))
    chance = np.random.Generator(np.random.PCG64(seed)).random(len(labels))
    dealt = np.lexsort((chance, labels))
    logits = np.empty((len(labels), classes))
    for fold in range(FOLDS):
        own = np.zeros(len(labels), np.bool_)
        own[dealt[fold::FOLDS]] = True
        if own.any():
            logits[own] = fit_regression(PENALTY, rows[~own], labels[~own], rows[own], classes)
    return logits


def label_issues(chances: Reals, labels: Labels) -> list[LabelIssue]:
    """Return the images whose labels are likely wrong, the surest first.

    An image counts as of the likeliest class whose probability is at least what the images of that
    class have on average (the confident joint, eq. 1). Those that then count as of another class
    than their own are ranked by the margin between both. Classes of one image are left out: no head
    has seen them.

    Args:
        chances: Probabilities (n, K) by heads that have not seen the image.
        labels: Class numbers (n,).
    """
    counts = np.bincount(labels, minlength=chances.shape[1])
    own = chances[np.arange(len(labels)), labels]
    sums = np.bincount(labels, own, minlength=len(counts))
    thresholds = np.where(counts > 1, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(chances >= thresholds, chances, -1.0)
    suggested, best = confident.argmax(axis=1), confident.max(axis=1)
    rows = np.flatnonzero((best > own) & (suggested != labels) & (counts[labels] > 1))
    ranked = rows[np.argsort((own - best)[rows], kind="stable")]
    return [LabelIssue(int(n), int(suggested[n]), float(best[n]), float(own[n])) for n in ranked]


def _principal(features: np.ndarray, most: int) -> np.ndarray:
    """Return the features at equal length, as so many principal components at most."""
    from sklearn.decomposition import PCA

    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    rows = features * (LENGTH / np.maximum(lengths, 1e-12))
    components = min(most, MOST_COMPONENTS, *features.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all features are the same
        return np.asarray(PCA(components, svd_solver="covariance_eigh").fit_transform(rows))
