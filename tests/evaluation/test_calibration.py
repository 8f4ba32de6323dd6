"""How far confidence can be believed, against counts by hand and against data that are calibrated
by construction.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from flowersweep.evaluation.calibration import brier, probabilities, reliability


def drawn(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that have just the probabilities that the logits say."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(images, classes))
    return logits, np.array([rng.choice(classes, p=each) for each in probabilities(logits)])


@pytest.mark.parametrize("bins", [10, 15])
def test_the_table_is_that_of_counting_bin_by_bin(bins: int) -> None:
    logits, labels = drawn(400, 5)
    sure, right = probabilities(logits).max(axis=1), logits.argmax(axis=1) == labels
    table, error = reliability(logits, labels, bins=bins), 0.0
    for index in range(bins):
        inside = (sure > index / bins) & (sure <= (index + 1) / bins)
        assert table.images[index] == inside.sum()
        if inside.any():
            assert table.confidence[index] == pytest.approx(sure[inside].mean())
            assert table.accuracy[index] == pytest.approx(right[inside].mean())
            error += inside.sum() / 400 * abs(sure[inside].mean() - right[inside].mean())
        else:
            assert np.isnan(table.accuracy[index])
    assert table.error == pytest.approx(error)


def test_the_error_is_small_where_confidence_is_true_and_large_where_it_is_not() -> None:
    logits, labels = drawn(5000, 5)
    assert reliability(logits, labels).error < 0.02
    assert reliability(3 * logits, labels).error > 0.1
    assert reliability(3 * logits, labels, temperature=3.0).error == pytest.approx(
        reliability(logits, labels).error
    )


def test_a_sure_and_a_wrong_prediction() -> None:
    logits, labels = np.array([[50.0, 0.0], [50.0, 0.0]]), np.array([0, 1])
    table = reliability(logits, labels)
    assert table.images.tolist() == [0] * 14 + [2]
    assert table.error == pytest.approx(0.5)
    assert brier(logits, labels) == pytest.approx(1.0)


def test_the_brier_score_is_that_of_scikit_learn() -> None:
    logits, labels = drawn(300, 7)
    wanted = brier_score_loss(
        labels, probabilities(logits), labels=list(range(7)), scale_by_half=False
    )
    assert brier(logits, labels) == pytest.approx(wanted)
