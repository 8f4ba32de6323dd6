"""Standard errors are those of the textbook, and paired ones are smaller where two models fail on
the same images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import IntDistribution

from flowersweep.evaluation.calibration import calibrated_nll
from flowersweep.report.checks.noise import (
    noise_level,
    objective_error,
    optimism,
    paired,
    paired_objective_error,
)
from flowersweep.report.study_view import StudyView, load_study
from flowersweep.report.summary import StudySummary
from tests.report.made_up import SPACE, MadeUp, Play, smoothed


def test_the_error_of_a_likelihood_is_that_of_the_bootstrap(study: StudyView) -> None:
    kept = study.predictions(0)
    assert kept is not None
    rng = np.random.default_rng(1)
    drawn = [rng.integers(len(kept.tune), size=len(kept.tune)) for _ in range(300)]
    spread = np.std([calibrated_nll(kept.tune[rows], kept.tune_labels[rows]) for rows in drawn])
    assert objective_error("tune/calibrated_nll", kept.tune, kept.tune_labels) == pytest.approx(
        spread, rel=0.2
    )


@pytest.mark.parametrize(
    "objective", ["tune/calibrated_nll", "tune/nll", "tune/accuracy", "tune/macro_f1"]
)
def test_a_paired_error_is_smaller_than_that_of_either_model(
    objective: str, study: StudyView
) -> None:
    first, second = study.predictions(0), study.predictions(3)
    assert first is not None
    assert second is not None
    assert (
        0
        < paired_objective_error(objective, first, second)
        < objective_error(objective, first.tune, first.tune_labels)
    )


def test_two_equal_models_are_unresolved_and_a_worse_one_is_told_apart(study: StudyView) -> None:
    best, twin, worse = (study.predictions(number) for number in (3, 0, 4))
    assert best is not None
    assert twin is not None
    assert worse is not None
    assert not paired(best, twin).resolved
    apart = paired(best, worse)
    assert apart.resolved
    assert 0 < apart.low < apart.value < apart.high


def test_optimism_grows_with_the_number_of_trials(tmp_path: Path) -> None:
    few, many = (
        load_study(
            MadeUp([Play(smoothed(0.1, 0.01), 0.3)] * number, name=f"of{number}").write(tmp_path)
        )
        for number in (3, 50)
    )
    assert 0 < (optimism(few, [0.1]) or 0) < (optimism(many, [0.1]) or 0)
    assert optimism(many, []) is None


def test_the_band_comes_from_replicas_where_there_are_some(
    tmp_path: Path, found: StudySummary
) -> None:
    assert found.noise is not None
    assert "no configuration was trained with several seeds" in found.noise.source
    values = (0.30, 0.34, 0.32, 0.36)
    space = {**SPACE, "seed": {"path": "seed", "values": IntDistribution(0, 9)}}
    plays = [Play({**smoothed(0.1, 0.01), "seed": n}, value) for n, value in enumerate(values)]
    replicated = noise_level(load_study(MadeUp(plays, space=space).write(tmp_path)), [0.001])
    assert replicated is not None
    assert replicated.error == pytest.approx(np.sqrt(2) * np.std(values, ddof=1))
    assert "4 trainings" in replicated.source


def test_replicas_that_agree_count_and_those_that_took_a_result_do_not(tmp_path: Path) -> None:
    plays = [
        Play(smoothed(0.1, 0.01 + n // 2 / 100), value)
        for n, value in enumerate((0.30, 0.30, 0.50, 0.54))
    ]
    study = load_study(MadeUp(plays).write(tmp_path))
    noise = noise_level(study, [])
    assert noise is not None
    # two groups of one degree of freedom each
    assert noise.error == pytest.approx(np.sqrt(2 * (0.0 + 2 * 0.02**2) / 2))
    for record in study.records[1::2]:
        record.repeats = record.number - 1  # and no seed: these trained nothing
    assert noise_level(study, []) is None


def test_replicas_are_what_trained_the_same_whatever_their_parameters(tmp_path: Path) -> None:
    values = (0.30, 0.34, 0.32)
    study = load_study(
        MadeUp(
            [Play(smoothed(0.1 + n / 100, 0.01), value) for n, value in enumerate(values)]
        ).write(tmp_path)
    )
    for record in study.records:
        record.identity, record.seed = "one training", record.number
    noise = noise_level(study, [])
    assert noise is not None
    assert noise.error == pytest.approx(np.sqrt(2) * np.std(values, ddof=1))
