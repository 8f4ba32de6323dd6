"""What each sampler suggests for a trial, as a function of its number and the study's seed."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
import optuna
import pytest

from flowersweep.config.compose import compose, parse
from flowersweep.errors import ConfigError
from flowersweep.search import optuna_study
from flowersweep.search.samplers import builtin, factory
from flowersweep.space import designs, transforms
from flowersweep.space.grammar import parse_distribution
from flowersweep.space.space import Params, Space, build_space


def spaces(*words: str) -> Space:
    return build_space(compose(words), words, parse(words))


def suggestions(n: int, *words: str) -> list[Params]:
    """What trials suggest, each asked in a study of its own that has no other."""
    config, space = compose(words), spaces(*words)
    return [
        space.suggest(
            optuna.create_study(sampler=factory.make_sampler(config, number, space)).ask()
        )
        for number in range(n)
    ]


def test_the_default_starts_with_the_configuration_as_it_stands() -> None:
    first, *others = suggestions(10, "+sweep=smoothing")
    assert first == {
        "loss": "smoothed_cross_entropy",
        "label_smoothing": 0.1,
        "learning_rate": 1e-2,
        "warmup": 0.1,
    }
    assert spaces("+sweep=smoothing").settings(first) == {}
    assert {params["loss"] for params in others} == {"smoothed_cross_entropy", "focal"}


def test_the_default_goes_on_with_what_a_published_recipe_has_inside_the_space() -> None:
    words = ("+sweep=smoothing", "train=finetune")
    second = suggestions(2, *words)[1]
    assert second == {
        "loss": "smoothed_cross_entropy",
        "label_smoothing": 0.1,
        "learning_rate": 5e-5,
        "warmup": 0.25,
    }
    # the head's range has no rate as low as the recipe's, so the rate stays ours
    assert suggestions(2, "+sweep=smoothing")[1] == {**second, "learning_rate": 1e-2}
    assert suggestions(2, *words, "sampler.recipe=null")[1] != second


def test_a_chosen_recipe_is_where_the_default_starts() -> None:
    first, second = suggestions(2, "+sweep=smoothing", "recipe=densenet201")
    assert (first["learning_rate"], first["warmup"]) == (5e-5, 0.25)
    assert second != first


def test_a_start_outside_the_space_is_moved_to_its_end() -> None:
    words = (
        "+sweep=smoothing",
        "sweep.space.warmup.values='interval(0.2, 0.22)'",
        "sweep.space.loss.values='choice(focal)'",
    )
    (first,) = suggestions(1, *words)
    assert first["warmup"] == 0.2
    assert "label_smoothing" not in first


def test_the_quasi_random_points_of_a_study_are_more_even_than_random_ones() -> None:
    from scipy.stats.qmc import discrepancy

    words = ("+sweep=smoothing", "loss=focal")
    space = spaces(*words)

    def unevenness(sampler: str) -> float:
        drawn = suggestions(32, *words, f"sampler={sampler}")
        low, high = np.log([1e-3, 5e-2])
        share: dict[str, Any] = {
            "gamma": lambda value: (value - 0.5) / 4.5,
            "learning_rate": lambda value: (math.log(value) - low) / (high - low),
            "warmup": lambda value: value / 0.25,
        }
        return float(
            discrepancy(
                [[share[p.name](point[p.name]) for p in space.parameters] for point in drawn]
            )
        )

    assert unevenness("qmc") < unevenness("random") / 2


def test_a_grid_has_every_point_of_every_branch_once() -> None:
    words = ("+sweep=smoothing", "sampler=grid", "sampler.steps=3")
    drawn = suggestions(2 * 3 * 3 * 3, *words)
    assert len({str(sorted(point.items())) for point in drawn}) == 54
    rates = sorted({point["learning_rate"] for point in drawn})
    assert rates == pytest.approx([1e-3, math.sqrt(5e-5), 5e-2])
    assert {point["gamma"] for point in drawn if point["loss"] == "focal"} == {0.5, 2.75, 5.0}
    assert drawn != suggestions(54, *words, "seed=1")


def test_a_grid_that_is_too_small_or_too_large_or_has_no_end_is_refused() -> None:
    config = compose(("+sweep=smoothing", "sampler=grid"))
    space = spaces("+sweep=smoothing")
    with pytest.raises(ConfigError, match=r"label_smoothing is continuous.*sampler\.steps=5"):
        factory.make_sampler(config, 0, space)
    with pytest.raises(ConfigError, match=r"the grid has 54 points.*sweep\.n_trials=54"):
        builtin.grid(seed=0, number=54, space=space, study_seed=0, steps=3)
    with pytest.raises(ConfigError, match="too many"):
        designs.grid_points(space, 20)


@pytest.mark.parametrize("steps", [0, -3, 2.5, "five", True])
def test_a_grid_has_a_whole_number_of_steps(steps: Any) -> None:
    with pytest.raises(ConfigError, match=r"sampler\.steps=.*at least 1"):
        designs.grid_points(spaces("+sweep=smoothing"), steps)


def test_a_grid_is_counted_before_it_is_made() -> None:
    whole = "+sweep.space.e={path: train.epochs, values: 'int(interval(1, 1000000000))'}"
    for space, steps in ((spaces("+sweep=quick", whole), 2), (spaces("+sweep=quick"), 10**9)):
        with pytest.raises(ConfigError, match="too many"):
            designs.grid_points(space, steps)


def test_a_sampler_or_pruner_that_takes_no_such_number_is_refused() -> None:
    space = spaces("+sweep=quick")
    with pytest.raises(ConfigError, match=r"sampler=default: .*not supported between"):
        factory.make_sampler(compose(["+sweep=quick", "sampler.n_startup_trials=[3]"]), 0, space)
    with pytest.raises(ConfigError, match=r"pruner=successive_halving: .*reduction_factor"):
        factory.make_pruner(compose(["pruner.reduction_factor=1"]))


def test_the_thousand_millionth_point_of_the_sequence_is_there_at_once() -> None:
    space = spaces("+sweep=smoothing")
    skipped = designs.quasi_random_sequence(space, 3, skip=5)
    counted = designs.quasi_random_sequence(space, 3)
    assert [*islice(skipped, 4)] == [*islice(counted, 5, 9)]
    assert designs.quasi_random(space, 10**9, 3)


def test_cma_es_wants_numbers_that_every_trial_has() -> None:
    pytest.importorskip("cmaes")
    with pytest.raises(ConfigError, match="this space has: learning_rate"):
        suggestions(1, "+sweep=quick", "sampler=cma_es")


def test_cma_es_finds_what_chance_does_not() -> None:
    pytest.importorskip("cmaes")
    entries = {
        name: f"+sweep.space.{name}={{path: augment.{name}, values: 'interval(0, 0.5)'}}"
        for name in ("hue", "shift", "zoom")
    }
    words = ("+sweep=quick", "augment=light", *entries.values())
    space, found = spaces(*words), {}
    for sampler in ("cma_es", "random"):
        config = compose((*words, f"sampler={sampler}"))
        study = optuna_study.rebuild_study([], space, config)
        for number in range(100):
            trial, params = optuna_study.ask_trial(study, number, space=space, config=config)
            study.tell(
                trial,
                sum((params[name] - 0.2) ** 2 for name in entries)
                + (math.log(params["learning_rate"]) + 5) ** 2 / 20,
            )
        found[sampler] = study.best_value
    assert found["cma_es"] < found["random"] / 4


QUANTILES = {
    "interval(1, 5)": (1.0, 3.0, 5.0),
    "tag(log, interval(1, 16))": (1.0, 4.0, 16.0),
    "int(interval(1, 5))": (1, 3, 5),
    "tag(log, int(interval(1, 64)))": (1, 6, 64),
    "range(0, 11, 5)": (0, 5, 10),
    "range(0, 1, 0.25)": (0.0, 0.5, 0.75),
    "choice(a, b, c)": ("a", "b", "c"),
}


@pytest.mark.parametrize(("values", "expected"), QUANTILES.items(), ids=QUANTILES.keys())
def test_shares_of_a_distribution_are_its_values(values: str, expected: tuple[Any, ...]) -> None:
    made = parse_distribution("x", values)
    assert tuple(transforms.ppf(made, share) for share in (0.0, 0.5, 1.0)) == expected
    if "choice" not in values:
        assert [
            transforms.ppf(made, transforms.cdf(made, value)) for value in expected
        ] == pytest.approx(expected)
    assert all(
        made._contains(made.to_internal_repr(transforms.ppf(made, share)))
        for share in np.linspace(0, 1, 200)
    )


NEAREST = [
    ("interval(1, 5)", 0, 1.0),
    ("interval(1, 5)", 7.5, 5.0),
    ("int(interval(1, 5))", 2.6, 3),
    ("range(0, 1, 0.25)", 0.3, 0.25),
    ("choice(a, b)", "b", "b"),
    ("choice(a, b)", "c", None),
    ("interval(1, 5)", None, None),
    ("interval(0, 1)", True, None),
]


@pytest.mark.parametrize(("values", "setting", "expected"), NEAREST)
def test_the_nearest_value_to_a_setting(values: str, setting: Any, expected: Any) -> None:
    assert transforms.nearest_value(parse_distribution("x", values), setting) == expected
