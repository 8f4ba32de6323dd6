"""Wrong labels are found by heads that have not seen them."""

from __future__ import annotations

import numpy as np
import pytest

from flowersweep.evaluation import label_issues as issues
from flowersweep.evaluation.label_issues import label_issues, out_of_fold_probabilities

CLASSES, EACH, WIDTH = 4, 30, 12


@pytest.fixture
def features() -> np.ndarray:
    """Images of four classes that a head can tell."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, WIDTH)) * 2
    return np.repeat(centres, EACH, axis=0) + rng.normal(size=(CLASSES * EACH, WIDTH)) * 0.3


TRUTH = np.repeat(np.arange(CLASSES), EACH)


def test_labels_that_were_exchanged_are_suspicious_and_others_are_not(features: np.ndarray) -> None:
    wrong = {3: 2, 40: 0, 77: 3, 119: 1}
    labels = TRUTH.copy()
    labels[[*wrong]] = [*wrong.values()]
    chances = out_of_fold_probabilities(features, labels, CLASSES)
    assert chances is not None
    assert np.allclose(chances.sum(axis=1), 1)
    suspects = label_issues(chances, labels)
    assert {issue.row: issue.suggested for issue in suspects} == {row: TRUTH[row] for row in wrong}
    assert all(issue.probability > issue.given for issue in suspects)
    margins = [issue.given - issue.probability for issue in suspects]
    assert margins == sorted(margins)
    again = out_of_fold_probabilities(features, labels, CLASSES)
    assert again is not None
    assert np.array_equal(chances, again)


def test_sound_labels_are_not_suspicious(features: np.ndarray) -> None:
    chances = out_of_fold_probabilities(features, TRUTH, CLASSES)
    assert chances is not None
    assert label_issues(chances, TRUTH) == []


def test_a_class_of_one_image_is_not_judged(features: np.ndarray) -> None:
    labels = TRUTH.copy()
    labels[0] = CLASSES
    chances = out_of_fold_probabilities(features, labels, CLASSES + 1)
    assert chances is not None
    assert label_issues(chances, labels) == []


def test_a_class_counts_from_its_own_mean_probability_on() -> None:
    # class 1 is predicted faintly even where it is right, so .3 is much for it
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.75, 0.25], [0.69, 0.31]])
    labels = np.array([0, 0, 1, 1, 0])
    assert [issue.row for issue in label_issues(chances, labels)] == []
    labels = np.array([0, 0, 1, 1, 1])
    assert [issue.row for issue in label_issues(chances, labels)] == []
    chances[3] = [0.95, 0.05]
    assert [issue[:2] for issue in label_issues(chances, labels)] == [(3, 0)]


def test_features_that_are_all_the_same_are_no_reason_to_fail() -> None:
    chances = out_of_fold_probabilities(np.ones((20, 5)), np.arange(20) % 2, 2)
    assert chances is not None
    assert np.isfinite(chances).all()


def test_many_images_get_fewer_components_and_too_many_are_left(
    features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issues, "FEWEST_COMPONENTS", 2)
    monkeypatch.setattr(issues, "LARGEST", len(TRUTH) * CLASSES * 3)
    chances = out_of_fold_probabilities(features, TRUTH, CLASSES)
    assert chances is not None
    assert (chances.argmax(axis=1) == TRUTH).mean() > 0.8
    monkeypatch.setattr(issues, "LARGEST", len(TRUTH) * CLASSES)
    assert out_of_fold_probabilities(features, TRUTH, CLASSES) is None
