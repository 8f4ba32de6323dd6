"""Constraints: which combinations a sweep does not want, and samplers that suggest none of them."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from flowersweep.__main__ import main
from flowersweep.config.compose import compose, parse
from flowersweep.errors import ConfigError
from flowersweep.search.samplers import factory
from flowersweep.search.samplers.rejection import project_to_feasible
from flowersweep.space import designs
from flowersweep.space.space import Params, Space, build_space
from flowersweep.workflows.planning import plan
from tests.conftest import TINY
from tests.search.test_optuna_study import play

SHORT = "warmup <= 0.1 * (1 + learning_rate / 0.05) / 4"  # a quarter of the space or less


def wanting(*constraints: str, words: tuple[str, ...] = ()) -> Space:
    config = compose(line := ("+sweep=smoothing", *words))
    return build_space(
        replace(config, sweep=replace(config.sweep, constraints=[*constraints])), line, parse(line)
    )


def words_of(*constraints: str) -> str:
    return f"sweep.constraints=[{','.join(repr(each) for each in constraints)}]"


POINT: Params = {"loss": "focal", "gamma": 2.0, "learning_rate": 0.01, "warmup": 0.2}
HOLDS = {
    "warmup <= 0.2": True,
    "warmup < 0.2": False,
    # by its path, beside a key that is not searched
    "schedule.warmup <= 0.02 * train.epochs": True,
    "0.1 < warmup < 0.15": False,
    "not warmup > 0.1": False,
    "warmup < 0.1 or gamma ** 2 + 1 == 5": True,
    "warmup < 0.1 and gamma == 2": False,
    "loss != 'focal' or -gamma > -3": True,
    "loss == 'smoothed_cross_entropy'": False,
    "label_smoothing > 1": True,  # this trial has none
    "model == 'efficientnet_lite0'": True,
    "1 / (gamma - 2) < 1": False,
    "9.0 ** 9 ** 9 ** gamma > 1": False,
}


@pytest.mark.parametrize(("text", "expected"), HOLDS.items())
def test_a_constraint_says_which_points_are_wanted(text: str, expected: bool) -> None:
    assert wanting(text).feasible(POINT) == expected


WRONG = {
    "warmup <=": "is no expression",
    "warmup + 1": "compares nothing",
    "warmpu <= 0.2": "names 'warmpu'. There are: .*warmup.* Did you mean \"warmup\"",
    "schedule.warmpu <= 0.2": 'Did you mean "schedule.warmup"',
    "loss.tau < 1": "another in every loss, and loss is searched",
    "__import__('os').system('true') == 0": r"has \"__import__\('os'\).system\('true'\)\"",
    "[x for x in (1, 2)] == warmup": "has ",
    "(lambda: 1)() == 1": "has ",
    "warmup.__class__ == 1": "names 'warmup.__class__'",
    "2 ** 'a' == warmup": "cannot be computed",
    "warmup < 'a'": "cannot be computed",
}


@pytest.mark.parametrize(("text", "told"), WRONG.items())
def test_what_is_no_constraint_is_refused_with_what_may_stand_there(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        designs.feasible_share(wanting(text))


def test_a_parameter_that_the_command_line_fixed_counts_with_its_value() -> None:
    space = wanting("warmup < 0.1 or loss == 'focal'", words=("schedule.warmup=0.2",))
    assert not space.feasible({"loss": "smoothed_cross_entropy"})
    assert space.feasible({"loss": "focal"})
    assert designs.feasible_share(space) == pytest.approx(0.5, abs=0.01)


def test_a_space_of_which_nothing_is_left_is_refused_before_any_work(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "+sweep=smoothing",
        "sampler=qmc",
        "tracking.enabled=false",
        *TINY,
        words_of("warmup > 0.2", "warmup < 0.1"),
    ]
    for verb in ([], ["plan"]):
        assert main([*verb, *words]) == 1
        assert re.search(
            r"leave nothing: none of 2048 .*'warmup > 0.2' is met by 0.2 of them.*Relax one",
            capsys.readouterr().err,
        )
    assert not list(project.rglob("journal.jsonl"))


def test_the_plan_says_how_much_of_the_space_is_left() -> None:
    said: list[str] = []
    plan._describe(compose(["+sweep=smoothing"]), wanting("warmup <= 0.0625"), said.append)
    assert "  wanted: warmup <= 0.0625" in said
    assert "  0.25 of the space meets that" in said


def suggested(sampler: str, trials: int, *, rebuild: bool = False) -> list[Params]:
    """Run a sweep with a constraint on made-up curves; return what was suggested."""
    words = (
        "+sweep=smoothing",
        f"sampler={sampler}",
        words_of(SHORT),
        *(["sampler.steps=8"] if sampler == "grid" else []),
    )
    config = replace(compose(words), train=replace(compose(words).train, epochs=8))
    space = build_space(config, words, parse(words))
    found = [params for params, *_ in play(config, space, trials, rebuild=rebuild)]
    assert all(map(space.feasible, found))
    return found


@pytest.mark.parametrize("sampler", ["default", "tpe", "cma_es", "qmc", "grid", "random"])
def test_no_sampler_suggests_what_is_not_wanted_and_a_rebuilt_study_suggests_the_same(
    sampler: str,
) -> None:
    if sampler == "cma_es":
        pytest.importorskip("cmaes")
    kept, rebuilt = (suggested(sampler, 16, rebuild=rebuild) for rebuild in (False, True))
    assert kept == rebuilt
    assert len({str(params) for params in kept}) == 16


def test_what_is_left_of_the_space_is_covered_evenly() -> None:
    """Against the conditional distribution: the warm-up's ceiling grows with the rate, so high
    rates come more often.
    """
    space = wanting(SHORT)
    drawn = [*filter(space.feasible, islice(designs.quasi_random_sequence(wanting(), 5), 400))]
    for sampler in ("random", "qmc"):
        config = compose(["+sweep=smoothing", f"sampler={sampler}"])
        asked = [
            optuna.create_study(sampler=factory.make_sampler(config, number, space)).ask()
            for number in range(60)
        ]
        points_of = [space.suggest(trial) for trial in asked]
        for name in ("learning_rate", "warmup"):
            expected, found = (
                np.array([each[name] for each in many]) for many in (drawn, points_of)
            )
            assert found.mean() == pytest.approx(
                expected.mean(), abs=4 * expected.std() / np.sqrt(60)
            )


def test_a_suggestion_that_cannot_be_had_is_moved_to_the_edge() -> None:
    space = wanting("warmup <= 0.1")
    wanted: dict[str, Any] = {**POINT, "warmup": 0.25}
    point = project_to_feasible(wanted, space, seed=0)
    assert point["warmup"] == pytest.approx(0.1, abs=1e-4)
    assert point == project_to_feasible(wanted, space, seed=0)
    assert point["loss"] == "focal"
