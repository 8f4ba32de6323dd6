"""A function of a notebook is called by its name, in its slot, in this process alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import pytest

from flowersweep.config import own_functions
from flowersweep.config.compose import compose, compose_unchecked
from flowersweep.config.schema import Model
from flowersweep.config.targets import resolve
from flowersweep.errors import ConfigError
from flowersweep.models.classifier import digest
from flowersweep.session.words import register
from flowersweep.training.identity import identity
from tests.tiny import tiny


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget what a test has registered."""
    before = dict(own_functions._functions)
    yield
    own_functions._functions.clear()
    own_functions._functions.update(before)
    compose_unchecked.cache_clear()


def brighter(key: Any, images: Any, targets: Any, *, amount: float = 0.1) -> Any:
    return images + amount, targets


def halved(images: Any) -> Any:
    return images / 2


def small(
    *, input_shape: Any, include_top: bool = False, weights: Any = None, filters: int = 4
) -> Any:
    images = keras.Input(input_shape)
    return keras.Model(images, keras.layers.Conv2D(filters, 3)(images))


def test_its_defaults_are_keys_and_what_the_caller_gives_is_none() -> None:
    assert register("augment", brighter) == "brighter"
    assert compose(["augment=brighter", "augment.amount=0.5"]).augment == {
        "_target_": "brighter",
        "name": "brighter",
        "amount": 0.5,
    }
    register("model", small, weights="imagenet", filters=8, preprocess=halved)
    model = compose(["model=small"]).model
    assert (model.backbone, model.weights) == ({"_target_": "small", "filters": 8}, "imagenet")
    assert resolve(model.backbone, "backbone") is small
    assert resolve(model.preprocess, "preprocess") is halved


def test_without_it_a_study_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"no such name.*must be registered first"):
        resolve({"_target_": "gone"}, "loss")
    with pytest.raises(ConfigError, match="no loss 'gone'"):
        compose(["loss=gone"])


def test_it_fills_its_own_slot_alone() -> None:
    register("augment", brighter)
    with pytest.raises(ConfigError, match="there is no such name"):
        resolve({"_target_": "brighter"}, "loss")


def test_a_class_of_another_kind_is_refused() -> None:
    class NoOptimizer:
        pass

    register("optimizer", NoOptimizer)
    with pytest.raises(ConfigError, match=r"subclass of keras\.Optimizer"):
        resolve({"_target_": "NoOptimizer"}, "optimizer")


@pytest.mark.parametrize(
    ("group", "name", "message"),
    [
        ("loss", "focal_cross_entropy", "there is a loss of this name"),
        ("loss", "focal", "there is a file of this name"),
        ("train", "mine", "'train' takes no function"),
    ],
)
def test_a_name_that_is_taken_is_refused(group: str, name: str, message: str) -> None:
    def function() -> None: ...

    function.__name__ = name
    with pytest.raises(ConfigError, match=message):
        register(group, function)


def test_an_augmentation_of_its_own_is_not_taken_for_none() -> None:
    config = tiny()
    tuned = replace(config, train=replace(config.train, finetune=True))
    own = replace(tuned, augment={"_target_": "brighter", "name": "brighter", "amount": 0.1})
    register("augment", brighter)
    assert identity(own, 1) != identity(tuned, 1)


def test_features_are_not_those_of_a_function_before_it_was_written_anew() -> None:
    namespace: dict[str, Any] = {}
    network = keras.Sequential()
    model = Model(name="small", backbone={"_target_": "small"}, preprocess=None)
    digests = []
    for body in ("1", "1 + 1"):
        exec(
            f"def small(*, input_shape, weights=None):\n    return {body} * input_shape", namespace
        )
        register("model", namespace["small"])
        digests.append(digest(network, model))
    assert digests[0] != digests[1]
