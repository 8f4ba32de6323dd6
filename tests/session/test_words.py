"""What Python says means what the words of a command mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from flowersweep.config.compose import compose, compose_unchecked, parse
from flowersweep.errors import ConfigError
from flowersweep.session.words import path_of, to_words
from flowersweep.space.ranges import Choice, Float, Int
from flowersweep.space.space import build_space


def half_focal(logits: Any, targets: Any, *, sharpness: float = 2.0) -> Any:
    return sharpness * (logits - targets).mean()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"n_trials": 30}, ["sweep.n_trials=30"]),
        ({"epochs": np.int64(3)}, ["train.epochs=3"]),
        ({"learning_rate": 1e-5}, ["train.learning_rate=1e-05"]),
        ({"minutes": None}, ["sweep.budget.minutes=null"]),
        ({"tracking": {"enabled": False}}, ["tracking.enabled=false"]),
        (
            {"data": {"name": "folder", "dir": Path("my photos")}},
            ["data=folder", "data.dir='my photos'"],
        ),
        ({"loss": {"name": "focal", "gamma": 1.5}}, ["loss=focal", "loss.gamma=1.5"]),
        ({"sweep": {"name": "quick", "workers": 2}}, ["+sweep=quick", "sweep.workers=2"]),
        ({"study": "1.10"}, ["study='1.10'"]),
        ({"reason": "it's slow = bad"}, ["reason='it\\'s slow = bad'"]),
        ({"ensemble": {"members": ["a:1", "b"]}}, ["ensemble.members=['a:1',b]"]),
        ({"train.epochs": 3}, ["train.epochs=3"]),
    ],
)
def test_a_setting_is_written_as_a_word_that_composes_to_it(
    said: dict[str, Any], words: list[str]
) -> None:
    assert to_words((), said) == words
    assert compose(words)
    assert to_words([said], {}) == words  # a dictionary is the same


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"epocs": 3}, "unknown setting 'epocs'. Did you mean \"epochs\"?"),
        ({"weights": "none"}, "model={'weights': ...} or ensemble={'weights': ...}"),
        ({"gamma": 2}, "loss={'gamma': 2}"),
        ({"epochs": object()}, "train.epochs=<object"),
        ({"space": {"learning_rate": 3}}, "Float(low, high)"),
        ({"space": {"learning_rate": Float(3, 1)}}, "low <= high"),
        ({"loss": lambda logits, targets: logits}, "a function with a name"),
        ({"verb": half_focal}, "'verb' takes no function"),
        ({"loss": print}, "loss=print"),
    ],
)
def test_what_cannot_be_said_is_explained(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose(to_words((), said))
    assert message in str(error.value) or "loss=print" in message


def test_a_key_of_the_first_level_means_itself_although_others_end_with_it() -> None:
    assert path_of("dir") == "dir"
    assert path_of("format") == "format"
    assert path_of("data.dir") == "data.dir"


def test_a_space_is_written_in_python() -> None:
    space = {
        "learning_rate": Float(1e-4, 1e-1, log=True),
        "model.dropout": Float(0, 0.5, step=0.1),
        "batch_per_replica": Int(8, 64, log=True),
        "loss": ["focal", "smoothed_cross_entropy"],
        "gamma": Float(0, 5, path="loss.gamma", when={"loss": "focal"}),
    }
    words = to_words((), {"study": "mine", "space": space})
    config = compose([*words, "verb=search"])
    found = {each.name: each for each in build_space(config, words, parse(words)).parameters}
    assert {name: each.path for name, each in found.items()} == {
        "learning_rate": "train.learning_rate",
        "dropout": "model.dropout",
        "batch_per_replica": "train.batch_per_replica",
        "loss": "loss",
        "gamma": "loss.gamma",
    }
    assert found["learning_rate"].distribution == FloatDistribution(1e-4, 1e-1, log=True)
    assert found["dropout"].distribution == FloatDistribution(0, 0.5, step=0.1)
    assert found["batch_per_replica"].distribution == IntDistribution(8, 64, log=True)
    assert found["loss"].distribution == CategoricalDistribution(
        ["focal", "smoothed_cross_entropy"]
    )
    assert found["gamma"].when == {"loss": ["focal"]}


def test_a_parameter_of_a_sweeps_file_needs_no_path() -> None:
    words = to_words(["+sweep=smoothing"], {"space": {"gamma": Float(1, 2)}})
    space = build_space(compose(words), words, parse(words))
    [gamma] = [each for each in space.parameters if each.name == "gamma"]
    assert (gamma.path, gamma.distribution) == ("loss.gamma", FloatDistribution(1, 2))
    assert gamma.when == {"loss": ["focal"]}


def test_a_function_is_an_option_of_its_group_by_its_name() -> None:
    words = to_words((), {"loss": half_focal})
    compose_unchecked.cache_clear()
    loss = compose([*words, "loss.sharpness=3"]).loss
    assert loss == {"_target_": "half_focal", "name": "half_focal", "sharpness": 3}
    words = to_words((), {"study": "mine", "space": {"loss": Choice("focal", half_focal)}})
    [searched] = build_space(compose(words), words, parse(words)).parameters
    assert searched.distribution == CategoricalDistribution(["focal", "half_focal"])
