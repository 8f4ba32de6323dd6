"""Which finite numbers show that a training has diverged."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowersweep.evaluation.divergence import (
    absurd_scores,
    constant_prediction,
    unusable_logits,
)
from flowersweep.evaluation.trial_scores import final_scores

LABELS = np.arange(40) % 4
USEFUL = np.eye(4)[LABELS] * 3 + np.random.default_rng(0).normal(scale=0.1, size=(40, 4))


def constant(logits: np.ndarray) -> str | None:
    return constant_prediction({"tune": logits}, final_scores({"tune": logits}, {"tune": LABELS}))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e27])
def test_a_loss_or_score_that_no_network_has_is_named(value: float) -> None:
    assert absurd_scores({"tune/nll": 2.0, "train/loss": value}) == f"train/loss is {value:.4g}"
    assert absurd_scores({"tune/nll": value, "tune/accuracy": 0.1}) == f"tune/nll is {value:.4g}"
    assert absurd_scores({"tune/nll": 40.0, "train/loss": 900.0}) is None


def test_logits_that_half_precision_cannot_hold_are_named() -> None:
    assert unusable_logits("test", USEFUL) is None
    assert unusable_logits("test", USEFUL * 1e5) == (
        "test has logits of 3.2e+05, more than the 65504 of float16"
    )
    assert unusable_logits("test", np.full((2, 2), np.inf)) == (
        "test has logits that are not finite"
    )


def test_a_network_that_says_the_same_of_every_image_is_named() -> None:
    assert constant(np.tile([5.0, 1.0, 0.0, 2.0], (40, 1))) == (
        "the network has the same logits for every image"
    )
    sure = USEFUL + np.array([0.0, 900.0, 0.0, 0.0])
    assert constant(sure) == "the network predicts class 1 for every image, worse than a guess"


def test_a_network_that_has_hardly_been_trained_is_not_diverged() -> None:
    assert constant(USEFUL) is None
    assert constant(USEFUL * 1e-3 + np.array([0.0, 0.01, 0.0, 0.0])) is None
