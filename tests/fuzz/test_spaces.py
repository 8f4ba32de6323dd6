"""Spaces and constraints, whatever they are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import optuna
from hypothesis import example, given
from hypothesis import strategies as st

from flowersweep.config.compose import compose
from flowersweep.space.constraints import constraint
from flowersweep.space.designs import grid_points, initial_points, quasi_random
from flowersweep.space.space import Space, build_space
from tests.fuzz.doors import attempt, fuzz

BASE = compose([])
PATHS = ["train.learning_rate", "train.epochs", "train.batch_statistics", "model.dropout", "loss",
         "loss.gamma", "seed", "data.split_seed", "sweep.n_trials", "model.weights", "nothing",
         "train", "schedule.warmup", "optimizer._target_", "", "loss.name"]  # fmt: skip
NUMBERS = st.sampled_from(
    ["0", "1", "0.5", "1e-300", "1e308", "inf", "nan", "-1", "'2'", "1000000000", "9" * 400, "yes"]
)
VALUES = st.one_of(
    st.builds("interval({}, {})".format, NUMBERS, NUMBERS),
    st.builds("int(interval({}, {}))".format, NUMBERS, NUMBERS),
    st.builds("tag({}, interval({}, {}))".format, st.sampled_from(["log", "LOG", "x"]),
              NUMBERS, NUMBERS),
    st.builds("range({}, {}, {})".format, NUMBERS, NUMBERS, NUMBERS),
    st.lists(st.one_of(NUMBERS, st.sampled_from(["focal", "a b", "'a,b'", "[1]", "null"])),
             max_size=4).map(lambda choices: f"choice({', '.join(choices)})"),
    st.text(max_size=12),
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "c", "loss", "1", "a.b"])
ENTRIES = st.fixed_dictionaries(
    {"path": st.sampled_from(PATHS), "values": VALUES},
    optional={
        "when": st.dictionaries(
            st.one_of(NAMES, st.sampled_from(PATHS)),
            st.one_of(NUMBERS, st.just(0.5), st.just("focal"), st.lists(st.booleans(), max_size=2)),
            max_size=2,
        )
    },
)


def use(space: Space) -> None:
    """Ask a space for everything that a sweep asks it for before its first trial, and a trial."""
    space.require_possible()
    json.dumps(space.describe(), allow_nan=False)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for params in (space.suggest(study.ask()), quasi_random(space, 10**9, 0)):
        json.dumps(params, allow_nan=False)
        attempt(lambda params=params: space.config(params))  # type: ignore[misc]
    next(initial_points(space), None)
    attempt(lambda: grid_points(space, 3))


@fuzz
@given(st.dictionaries(NAMES, ENTRIES, min_size=1, max_size=4))
@example({"x": {"path": "train.epochs", "values": "choice('2', '3')"}})
@example({"x": {"path": "train.learning_rate", "values": "interval(0.1, inf)"}})
@example({"x": {"path": "seed", "values": "range(0, 1000000000)"}})
@example({"x": {"path": "seed", "values": "choice(1, 2)", "when": {"x": 1}}})
@example({"x": {"path": "train.learning_rate", "values": "tag(LOG, interval(0.1, 1))"}})
@example({"x": {"path": "train.learning_rate", "values": "range(0, 1, 1e-300)"}})
@example({"x": {"path": "train.learning_rate", "values": "interval(0, 1e308)"}})
@example({"x": {"path": "seed", "values": "int(interval(0, " + "9" * 400 + "))"}})
def test_a_space_is_searched_or_refused(entries: dict[str, Any]) -> None:
    config = replace(BASE, sweep=replace(BASE.sweep, space=entries))
    attempt(lambda: use(build_space(config, (), [])))


TOKENS = st.sampled_from(
    ["lr", "loss", "lr.a", "1", "9", "0.5", "9" * 400, "**", "*", "/", "-", "+", "<", "<=", "==",
     "!=", "(", ")", " and ", " or ", " not ", "'a'", "f'{", "}'", "[", "{a:", "lambda ", " if ",
     " else ", ":=", "__import__('os')", "1j", "\\", "\n", "#", "é", "\0"]
)  # fmt: skip
EXPRESSIONS = st.one_of(
    st.lists(TOKENS, max_size=20).map("".join),
    st.text(max_size=20),
    st.builds(lambda token, times: token * times + "lr<1", TOKENS, st.integers(0, 3000)),
)


@fuzz
@given(EXPRESSIONS)
@example("9**9**9 < lr")
@example("-" * 3000 + "lr<1")
@example("lr" + ".a" * 2000 + "<1")
@example("f'{f\"{f'''{1}'''}\"}' == 'a'")
@example("(" * 150 + "lr" + ")" * 150 + "<1")
@example("{a:" * 100)
@example("lr < 10 ** 400")
@example("(-8.0) ** 0.5 < lr")
@example("'a' * 10 ** 9 == loss")
@example("lr<" * 1600 + "1")
def test_a_constraint_is_computed_or_refused(text: str) -> None:
    def computed() -> bool:
        names = {"lr": "lr", "loss": "loss"}
        return constraint(text, names, {}, ()).holds({"lr": 0.1, "loss": "focal"})

    assert attempt(computed) in (True, False, None)
