"""A space searches what it says: an entry that would search nothing is refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from flowersweep.config.compose import compose, parse
from flowersweep.errors import ConfigError
from flowersweep.space.space import Space, build_space

LOSS = "choice(smoothed_cross_entropy, focal)"


def space_of(entries: dict[str, Any], *words: str) -> Space:
    config = compose(words)
    config = replace(config, sweep=replace(config.sweep, space=entries))
    space = build_space(config, words, parse(words))
    space.require_possible()
    return space


def entry(path: str, values: str, **when: Any) -> dict[str, Any]:
    return {"path": path, "values": values} | ({"when": when} if when else {})


def suggested(space: Space, n: int = 40) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [space.suggest(study.ask()) for _ in range(n)]


@pytest.mark.parametrize(
    ("path", "values", "expected"),
    [
        ("train.batch_statistics", "choice(yes, no)", [True, False]),
        ("train.batch_statistics", "choice(on, 'false')", [True, False]),
        ("optimizer.nesterov", "choice(no, yes)", [False, True]),
        ("train.epochs", "choice('2', '3')", [2, 3]),
        ("train.learning_rate", "choice('0.1', 0.2)", [0.1, 0.2]),
        ("loss.label_smoothing", "choice('0.1', 0.2)", [0.1, 0.2]),
        ("model.weights", "choice(imagenet, 50)", ["imagenet", "50"]),
    ],
)
def test_a_choice_is_of_the_type_of_its_key(path: str, values: str, expected: list[Any]) -> None:
    space = space_of({"x": entry(path, values)}, "optimizer=sgd")
    assert space.parameters[0].distribution == CategoricalDistribution(expected)
    assert [dict(space.settings({"x": v})).get(path, v) for v in expected] == expected


def both_set_the_rate(**whens: dict[str, Any]) -> dict[str, Any]:
    return {
        "optimizer": entry("optimizer", "choice(adam, sgd)"),
        **{
            name: {"path": "train.learning_rate", "values": "interval(0.1, 1)", "when": when}
            for name, when in whens.items()
        },
    }


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two of one path": (both_set_the_rate(a={}, b={}), "a and b both set train.learning_rate"),
    "two of one path, on branches that meet": (
        both_set_the_rate(a={"optimizer": ["adam", "sgd"]}, b={"optimizer": "sgd"}),
        "a and b both set train.learning_rate",
    ),
    "a circle": (
        {
            "d": entry("model.dropout", "choice(0.0, 0.5)", w=0.1),
            "w": entry("train.weight_decay", "choice(0.0, 0.1)", d=0.5),
        },
        "the conditions of d, w wait for each other",
    ),
    "itself": ({"d": entry("model.dropout", "choice(0.0, 0.5)", d=0.5)}, "d wait for each other"),
    "itself, by its path": (
        {"d": {**entry("model.dropout", "choice(0.0, 0.5)"), "when": {"model.dropout": 0.5}}},
        "d wait for each other",
    ),
    "a value that never is": (
        {
            "d": entry("model.dropout", "choice(0.0, 0.5)"),
            "w": entry("train.weight_decay", "choice(0.0, 0.1)", d=0.4),
        },
        "sweep.space.w is never active: d is never",
    ),
    "a number of an interval": (
        {
            "d": entry("model.dropout", "interval(0, 0.5)"),
            "w": entry("train.weight_decay", "choice(0.0, 0.1)", d=0.4),
        },
        "sweep.space.w is never active: d is never",
    ),
    "conditions that exclude each other": (
        {
            "loss": entry("loss", LOSS),
            "gamma": entry("loss.gamma", "choice(1.0, 2.0)", loss="focal"),
            "d": entry("model.dropout", "choice(0, 0.5)", gamma=1.0, loss="smoothed_cross_entropy"),
        },
        "sweep.space.d is never active: loss is never",
    ),
    "an option that is none": (
        {
            "loss": entry("loss", LOSS),
            "gamma": entry("loss.gamma", "interval(0, 1)", loss=["focal", "focl"]),
        },
        "sweep.space.gamma.when.loss: no loss 'focl'.*Did you mean \"focal\"",
    ),
    "an option of a group that is not searched": (
        {"h": entry("train.head_epochs", "int(interval(1, 2))", train="finetun")},
        "no train 'finetun'.*finetune",
    ),
    "an empty condition": (
        {
            "loss": entry("loss", LOSS),
            "gamma": entry("loss.gamma", "interval(0, 1)", loss=[]),
        },
        "gamma is never active",
    ),
    "a condition that is no mapping": (
        {"x": {**entry("seed", "choice(1, 2)"), "when": "loss"}},
        "when is 'loss'",
    ),
    "an unknown part": ({"x": {**entry("seed", "choice(1, 2)"), "wehn": {}}}, "x has wehn"),
    "a tag in capitals": (
        {"x": entry("train.learning_rate", "tag(LOG, interval(0.1, 1))")},
        "the tag LOG means nothing here",
    ),
    "a tag of choices": ({"x": entry("seed", "tag(log, choice(1, 2))")}, "the tag log means"),
    "an endless range": ({"x": entry("train.learning_rate", "interval(0.1, inf)")}, "inf is no"),
    "an endless choice": ({"x": entry("train.learning_rate", "choice(nan, 0.1)")}, "nan is no"),
    "null": ({"x": entry("train.steps_per_epoch", "choice(null, 1)")}, r"choice\(null, 1\)"),
    "a choice twice": ({"x": entry("model.dropout", "choice(0.1, 0.1)")}, "0.1 is twice"),
    "a choice twice, once in quotes": ({"x": entry("seed", "choice(1, '1')")}, "1 is twice"),
    "a switch from a range": (
        {"x": entry("train.batch_statistics", "int(interval(0, 1))")},
        "train.batch_statistics is no number",
    ),
    "a text from a range": ({"x": entry("model.weights", "interval(0, 1)")}, "is no number"),
    "a word where a number belongs": ({"x": entry("seed", "choice(one, 2)")}, "x: seed='one'"),
    "how many trials": ({"x": entry("sweep.n_trials", "choice(2, 3)")}, "no trial can change it"),
    "a sampler": ({"x": entry("sampler", "choice(tpe, qmc)")}, "no trial can change it"),
    "where things are": ({"x": entry("tracking.uri", "choice(a, b)")}, "no trial can change it"),
    "a place": ({"x": entry("data.cache_bytes", "choice(1, 2)")}, "no trial can change it"),
    "a label": ({"x": entry("loss.name", LOSS)}, "no trial can change it"),
    "hosts": ({"x": entry("distributed.hosts", "choice(1, 2)")}, "no trial can change it"),
    "other halves": ({"x": entry("data.split_seed", "choice(1, 2)")}, "different images"),
    "other images": ({"x": entry("data", "choice(synthetic, tfrecords)")}, "different images"),
    "other images, fetched": ({"x": entry("data.fetch.train", "choice(8, 9)")}, "different images"),
}


@pytest.mark.parametrize(("entries", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_an_entry_that_searches_nothing_is_refused(entries: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        space_of(entries)
    assert "\n" not in str(error.value)


def test_a_condition_may_name_a_parameter_further_down() -> None:
    entries = {
        "gamma": entry("loss.gamma", "interval(0.5, 5)", objective="focal"),
        "objective": entry("loss", LOSS),
        "rate": entry("train.learning_rate", "interval(0.1, 1)"),
    }
    space = space_of(entries)
    assert [p.name for p in space.parameters] == ["objective", "gamma", "rate"]
    for params in suggested(space):
        assert ("gamma" in params) == (params["objective"] == "focal")


@pytest.mark.parametrize("name", ["loss", "loss.name", "objective"])
def test_a_condition_may_name_a_parameter_or_its_path(name: str) -> None:
    gamma = {**entry("loss.gamma", "interval(0.5, 5)"), "when": {name: "focal"}}
    space = space_of({"gamma": gamma, "objective": entry("loss", LOSS)})
    assert {"gamma" in params for params in suggested(space)} == {True, False}


def test_a_condition_is_of_the_type_of_its_parameter() -> None:
    entries = {
        "statistics": entry("train.batch_statistics", "choice(yes, no)"),
        "rate": entry("train.learning_rate", "interval(0.1, 1)", statistics="yes"),
    }
    for params in suggested(space_of(entries)):
        assert ("rate" in params) == (params["statistics"] is True)


def test_two_parameters_of_one_path_may_be_on_branches_that_never_meet() -> None:
    entries = both_set_the_rate(a={"optimizer": "adam"}, b={"optimizer": "sgd"})
    space = space_of(entries)
    for params in suggested(space, 8):
        value = params["a" if params["optimizer"] == "adam" else "b"]
        assert space.config(params).train.learning_rate == value


def test_what_depends_on_a_parameter_that_is_left_out_is_left_out() -> None:
    entries = {
        "h": entry("train.head_epochs", "choice(1, 2)", train="finetune"),
        "w": entry("train.weight_decay", "choice(0.0, 0.1)", h=2),
        "d": entry("model.dropout", "choice(0.0, 0.1)"),
    }
    names = {
        train: [p.name for p in space_of(entries, f"train={train}").parameters]
        for train in ("frozen", "finetune")
    }
    assert names == {"frozen": ["d"], "finetune": ["h", "w", "d"]}


def test_a_space_without_an_active_parameter_is_refused() -> None:
    entries = {"h": entry("train.head_epochs", "choice(1, 2)", train="finetune")}
    with pytest.raises(ConfigError, match="no parameter is active with this configuration"):
        space_of(entries)


def test_a_mapping_on_the_command_line_takes_its_parameters_out_of_the_space() -> None:
    line = ("+sweep=smoothing", "train={learning_rate: 0.01}", "++loss={label_smoothing: 0.1}")
    space = build_space(compose(line), line, parse(line))
    assert [p.name for p in space.parameters] == ["loss", "gamma", "warmup"]
    assert space.config({"loss": "focal", "gamma": 1.0}).train.learning_rate == 0.01
