"""A study admits what it cannot tell apart, where its ranges end too early, and what failed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from flowersweep.config.compose import parse
from flowersweep.report.checks.audit import audit, boundary_optima, wider
from flowersweep.report.study_view import load_study
from flowersweep.report.summary import StudySummary
from flowersweep.space.grammar import parse_distribution
from flowersweep.space.space import Parameter
from tests.report.made_up import MadeUp, Play, smoothed


def titles(found: StudySummary) -> str:
    return "\n".join(finding.title for finding in found.audit_items)


def test_the_best_trial_and_its_twin_are_unresolved(found: StudySummary) -> None:
    assert "Unresolved: is trial 3 better than trial 0?" in titles(found)
    [finding] = [each for each in found.audit_items if "Unresolved" in each.title]
    assert "Of the 2 next best trials, 1 cannot be distinguished from trial 3" in finding.text


def test_failed_trials_are_listed_with_their_reasons(found: StudySummary) -> None:
    [finding] = [each for each in found.audit_items if "failed" in each.title]
    assert "1 of 6 trials" in finding.title
    assert "nan after epoch 2" in finding.text


def test_how_many_trials_were_tried_and_what_that_flatters_is_said(found: StudySummary) -> None:
    [finding] = [each for each in found.audit_items if "Picked from 6 trials" in each.title]
    assert "3 complete, 1 pruned, 1 failed, 1 running" in finding.text
    assert "would still look about" in finding.text


def test_a_best_value_at_the_end_of_its_range_gets_a_wider_one(tmp_path: Path) -> None:
    plays = [
        Play(smoothed(0.1, rate), value)
        for rate, value in ((0.049, 0.3), (0.05, 0.31), (0.046, 0.32), (0.01, 0.5), (0.001, 0.9))
    ]
    study = load_study(MadeUp(plays).write(tmp_path))
    [edge] = boundary_optima(study)
    assert (edge.parameter.name, edge.end, edge.near, edge.of) == ("learning_rate", "upper", 3, 5)
    [finding] = [each for each in audit(study, {}, None) if "learning_rate" in each.title]
    assert "3 of the 5 best trials lie there" in finding.text
    [word] = shlex.split(finding.words)
    [override] = parse([word])
    wide = parse_distribution("learning_rate", override.value())
    assert isinstance(wide, FloatDistribution)
    assert (wide.low, wide.high, wide.log) == (5e-4, 0.5, True)


def test_the_lower_end_is_an_end_too_but_not_where_values_end(tmp_path: Path) -> None:
    study = load_study(
        MadeUp([Play(smoothed(0.0, 0.00051), 0.3), Play(smoothed(0.2, 0.01), 0.4)]).write(tmp_path)
    )
    [edge] = boundary_optima(study)  # label smoothing cannot be below 0
    assert (edge.parameter.name, edge.end, edge.values) == (
        "learning_rate",
        "lower",
        "tag(log, interval(5e-05, 0.05))",
    )


def test_a_best_value_in_the_middle_is_no_finding(found: StudySummary) -> None:
    assert "end of its range" not in titles(found)


@pytest.mark.parametrize(
    ("path", "ranged", "end", "expected"),
    [
        ("loss.gamma", FloatDistribution(0.5, 5), "upper", FloatDistribution(0.5, 7.2)),
        ("loss.gamma", FloatDistribution(0.5, 5), "lower", FloatDistribution(0, 5)),
        (
            "train.learning_rate",
            FloatDistribution(1e-4, 1e-2, log=True),
            "lower",
            FloatDistribution(1e-5, 1e-2, log=True),
        ),
        ("train.batch_per_replica", IntDistribution(16, 64), "upper", IntDistribution(16, 88)),
        (
            "train.batch_per_replica",
            IntDistribution(16, 256, log=True),
            "upper",
            IntDistribution(16, 1024, log=True),
        ),
        ("train.epochs", IntDistribution(2, 10, step=2), "upper", IntDistribution(2, 14, step=2)),
        ("model.dropout", FloatDistribution(0, 0.5), "lower", None),  # no share is below 0
        ("loss.label_smoothing", FloatDistribution(0, 0.9), "upper", None),  # nor above its limit
    ],
)
def test_a_wider_range_stays_within_what_makes_sense(
    path: str, ranged: BaseDistribution, end: Any, expected: BaseDistribution | None
) -> None:
    values = wider(Parameter("it", path, ranged, {}), end)
    assert (None if values is None else parse_distribution("it", values)) == expected
