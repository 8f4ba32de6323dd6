"""A trial ends with scores that holdout has not helped."""

from __future__ import annotations

import pytest

from flowersweep.evaluation.scores import nll
from flowersweep.evaluation.trial_scores import final_scores
from tests.evaluation.test_calibration import drawn


def test_holdout_is_scored_at_the_temperature_of_tune() -> None:
    logits, labels = drawn(500, 5)
    parts = {"tune": 3 * logits[:250], "holdout": 2 * logits[250:]}
    scores = final_scores(parts, {"tune": labels[:250], "holdout": labels[250:]})
    assert scores["tune/temperature"] == pytest.approx(3, rel=0.2)
    assert scores["holdout/calibrated_nll"] == pytest.approx(
        nll(parts["holdout"], labels[250:], scores["tune/temperature"])
    )
    assert {
        "tune/ece",
        "holdout/ece",
        "holdout/calibrated_ece",
        "holdout/brier",
        "holdout/macro_f1",
    } <= set(scores)
