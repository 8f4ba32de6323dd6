"""Trials are promoted by another objective than the study's only if all of them have it, and in its
own direction.
"""

from __future__ import annotations

import pytest

from flowersweep.errors import StudyError
from flowersweep.study.events import TrialEnded
from flowersweep.study.records import TrialRecord
from flowersweep.workflows.promotion.candidates import ranked_for


def trial(number: int, value: float, **metrics: float) -> TrialRecord:
    metrics = {f"tune/{name}": score for name, score in metrics.items()}
    return TrialRecord(
        number,
        {},
        metrics=metrics,
        ended=TrialEnded(trial=number, state="complete", value=value, time=0.0),
    )


def test_another_objective_ranks_its_own_values_in_its_own_direction() -> None:
    trials = [
        trial(0, 0.3, calibrated_nll=0.3, macro_f1=0.7),
        trial(1, 0.4, calibrated_nll=0.4, macro_f1=0.9),
    ]
    own = ranked_for(trials, ["tune/calibrated_nll"], ["tune/calibrated_nll"])
    other = ranked_for(trials, ["tune/macro_f1"], ["tune/calibrated_nll"])
    assert [record.number for record in own] == [0, 1]
    assert [record.number for record in other] == [1, 0]


def test_an_objective_that_a_trial_lacks_is_refused_with_what_to_use() -> None:
    trials = [trial(0, 0.3, calibrated_nll=0.3, macro_f1=0.7), trial(1, 0.4, calibrated_nll=0.4)]
    with pytest.raises(StudyError, match=r"trial 1 .* tune/calibrated_nll, tune/macro_f1"):
        ranked_for(trials, ["tune/macro_f1"], ["tune/calibrated_nll"])
