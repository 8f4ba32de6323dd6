"""Scores and calibration against scikit-learn and SciPy, and against a clock."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from flowersweep.evaluation.calibration import calibrated_nll, temperature
from flowersweep.evaluation.scores import accuracy, confusion, macro_f1, nll, per_class


def predictions(
    images: int, classes: int, seed: int = 0, scale: float = 1.0, signal: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), labels] += signal
    return (scale * logits).astype(np.float32), labels.astype(np.int32)


@pytest.mark.parametrize(
    ("images", "classes"),
    [(810, 104), (5, 104), (300, 3), (1, 2)],
    ids=["flowers", "most absent", "few", "one image"],
)
def test_scores_equal_those_of_scikit_learn(images, classes):
    logits, labels = predictions(images, classes, signal=1.0)
    predicted = logits.argmax(axis=1)
    assert accuracy(logits, labels) == pytest.approx(accuracy_score(labels, predicted), abs=1e-12)
    assert macro_f1(logits, labels, classes) == pytest.approx(
        f1_score(labels, predicted, average="macro", zero_division=0), abs=1e-12
    )
    chances = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    chances /= chances.sum(axis=1, keepdims=True)
    assert nll(logits, labels) == pytest.approx(
        log_loss(labels, chances, labels=range(classes)), rel=1e-6
    )
    np.testing.assert_array_equal(
        confusion(logits, labels), confusion_matrix(labels, predicted, labels=range(classes))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = precision_recall_fscore_support(
            labels, predicted, labels=range(classes), zero_division=0
        )
    for got, want in zip(per_class(logits, labels), wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_a_class_that_is_neither_there_nor_predicted_does_not_count():
    logits, labels = np.array([[5.0, 0, 0, 0], [0, 5, 0, 0]]), np.array([0, 1])
    assert macro_f1(logits, labels, 4) == 1.0
    # class 1 was predicted, class 2 is there
    assert macro_f1(logits, np.array([0, 2]), 4) == pytest.approx(1 / 3)


def test_the_likelihood_survives_large_and_half_precision_logits():
    logits, labels = np.array([[60000.0, -60000.0], [0.0, 1.0]], np.float16), np.array([0, 0])
    assert nll(logits, labels) == pytest.approx(np.log1p(np.e) / 2)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0, 5.0])
def test_the_temperature_is_the_one_that_scipy_finds(scale):
    logits, labels = predictions(810, 104, scale=scale)
    found = minimize_scalar(
        lambda inverse: nll(logits.astype(np.float64) * inverse, labels),
        bounds=(0.05, 20),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert temperature(logits, labels) == pytest.approx(1 / found.x, rel=1e-4)
    assert calibrated_nll(logits, labels) == pytest.approx(found.fun, rel=1e-7)


def test_the_calibrated_likelihood_does_not_depend_on_the_scale_of_the_logits():
    logits, labels = predictions(810, 104)
    assert calibrated_nll(3 * logits, labels) == pytest.approx(
        calibrated_nll(logits, labels), rel=1e-6
    )


@pytest.mark.parametrize(
    ("logits", "labels", "bound"),
    [
        (np.eye(3) * 4, np.arange(3), 0.05),
        (np.eye(3) * 4, (np.arange(3) + 1) % 3, 20.0),
        (np.zeros((3, 3)), np.arange(3), 20.0),
    ],
    ids=["always right", "always wrong", "knows nothing"],
)
def test_where_no_temperature_is_best_the_bound_is_taken(logits, labels, bound):
    assert temperature(logits, labels) == bound


def milliseconds(function: Callable[[], object]) -> float:
    def once() -> float:
        begin = time.perf_counter()
        function()
        return time.perf_counter() - begin

    return 1000 * min(once() for _ in range(20))


def test_scores_are_quick_enough_for_every_epoch():
    logits, labels = predictions(810, 104)
    assert milliseconds(lambda: (accuracy(logits, labels), macro_f1(logits, labels, 104))) < 1
    assert milliseconds(lambda: nll(logits, labels)) < 2
    assert milliseconds(lambda: calibrated_nll(logits, labels)) < 8
