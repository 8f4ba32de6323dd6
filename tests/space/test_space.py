"""The space: Hydra's sweep grammar, conditions, and what the command line takes out of it."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from flowersweep.config.compose import compose, parse
from flowersweep.errors import ConfigError
from flowersweep.space.grammar import parse_distribution
from flowersweep.space.space import Space, build_space

GRAMMAR = {
    "interval(0, 0.2)": FloatDistribution(0.0, 0.2),
    "interval(1, 5)": FloatDistribution(1.0, 5.0),
    "tag(log, interval(1e-4, 1e-2))": FloatDistribution(1e-4, 1e-2, log=True),
    "int(interval(1, 5))": IntDistribution(1, 5),
    "tag(log, int(interval(1, 64)))": IntDistribution(1, 64, log=True),
    "choice(a, b)": CategoricalDistribution(["a", "b"]),
    "choice(0.5)": CategoricalDistribution([0.5]),
    "choice(1, 2.5, x)": CategoricalDistribution([1, 2.5, "x"]),
    "range(1, 5)": IntDistribution(1, 4),
    "range(0, 10, 5)": IntDistribution(0, 5, step=5),
    "range(0, 1, 0.25)": FloatDistribution(0.0, 0.75, step=0.25),
    "range(0, 0.9, 0.3)": FloatDistribution(0.0, 0.6, step=0.3),
}


@pytest.mark.parametrize(("values", "expected"), GRAMMAR.items(), ids=GRAMMAR.keys())
def test_the_grammar_becomes_a_distribution(values: str, expected: object) -> None:
    assert parse_distribution("x", values) == expected


@pytest.mark.parametrize(
    "values",
    [
        "0.5",
        "interval(1)",
        "interval(5, 1)",
        "tag(log, interval(0, 1))",
        "between(1, 2)",
        "choice()",
        "range(5, 1)",
        "range(1, 5, 0)",
    ],
)
def test_what_is_not_in_the_grammar_is_named_with_what_is(values: str) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.space\.x\.values=.*interval\(low, high\)"):
        parse_distribution("x", values)


def smoothing(*words: str) -> Space:
    line = ("+sweep=smoothing", *words)
    return build_space(compose(line), line, parse(line))


def sampled(space: Space, n: int = 40) -> list[dict[str, object]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [space.suggest(study.ask()) for _ in range(n)]


def test_a_branch_has_only_its_own_parameters() -> None:
    for params in sampled(smoothing()):
        assert ("label_smoothing" in params) == (params["loss"] == "smoothed_cross_entropy")
        assert ("gamma" in params) == (params["loss"] == "focal")


def test_a_parameter_becomes_an_override_of_its_path() -> None:
    space = smoothing()
    config = space.config({"loss": "focal", "gamma": 3.0, "learning_rate": 0.002, "warmup": 0.2})
    assert config.loss["name"] == "focal"
    assert config.loss["label_smoothing"] == 0.0
    assert (config.loss["gamma"], config.train.learning_rate, config.schedule["warmup"]) == (
        3.0,
        0.002,
        0.2,
    )
    assert space.settings({"loss": "focal", "gamma": 3.0}) == {
        "loss.name": "focal",
        "loss.gamma": 3.0,
        "loss.label_smoothing": 0.0,
    }


def test_a_parameter_fixed_on_the_command_line_leaves_the_space() -> None:
    space = smoothing("schedule.warmup=0.1")
    assert "warmup" not in {parameter.name for parameter in space.parameters}
    assert space.config({"loss": "focal", "gamma": 3.0}).schedule["warmup"] == 0.1


def test_fixing_a_branch_leaves_only_that_branch() -> None:
    assert {"gamma"} <= set(sampled(smoothing("loss=focal"))[0])
    names = {parameter.name for parameter in smoothing("loss=focal").parameters}
    assert names == {"gamma", "learning_rate", "warmup"}


def test_the_rates_worth_searching_come_with_the_stage() -> None:
    ranges = {}
    for train in ("frozen", "finetune"):
        space = smoothing(f"train={train}")
        ranges[train] = next(p.distribution for p in space.parameters if p.name == "learning_rate")
    assert ranges["frozen"] != ranges["finetune"]


def test_a_condition_on_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(ConfigError, match="a condition names 'los'"):
        smoothing("+sweep.space.warmup.when={los: focal}")


def test_a_condition_may_name_what_is_not_searched() -> None:
    for stage, there in (("frozen", False), ("finetune", True)):
        for name in ("train", "train.name"):
            entry = (
                f"+sweep.space.rate={{path: train.backbone_lr_multiplier, values: 'interval(0.1, "
                f"1)', when: {{{name}: finetune}}}}"
            )
            space = smoothing(f"train={stage}", entry)
            assert ("rate" in {parameter.name for parameter in space.parameters}) == there
            assert all(("rate" in params) == there for params in sampled(space))


def recipe(*words: str) -> Space:
    line = ("+sweep=recipe", *words)
    return build_space(compose(line), line, parse(line))


def test_mixing_has_its_numbers_only_where_there_is_any() -> None:
    points = sampled(recipe("train=finetune"), 200)
    for params in points:
        assert ("cutmix_share" in params) == (params["mix_probability"] != 0)
        assert ("mixup_alpha" in params) == (params.get("cutmix_share") in (0.0, 0.5))
        assert ("cutmix_alpha" in params) == (params.get("cutmix_share") in (0.5, 1.0))
    assert len({tuple(params) for params in points}) == 2 * 2 * 4
    assert not {
        "mix_probability",
        "rotation",
        "backbone_lr_multiplier",
        "cutmix_share",
        "mixup_alpha",
    } & {*sampled(recipe())[0]}


def test_a_parameter_of_a_group_that_was_replaced_drops_out() -> None:
    entry = (
        "+sweep.space.half_life={path: schedule.half_life, values: 'interval(0.1, 0.5)', when: "
        "{schedule: exponential}}"
    )
    group = "+sweep.space.schedule={path: schedule, values: 'choice(exponential, constant)'}"
    assert "half_life" in {parameter.name for parameter in smoothing(group, entry).parameters}
    assert "half_life" not in {
        parameter.name for parameter in smoothing(group, entry, "schedule=constant").parameters
    }


def test_a_sweep_of_which_everything_is_fixed_is_refused() -> None:
    with pytest.raises(ConfigError, match="fixes every parameter"):
        smoothing("loss=focal", "loss.gamma=2", "train.learning_rate=0.01", "schedule.warmup=0.1")
