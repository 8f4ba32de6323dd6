"""Trials on more training images: exact after a cut, judged on the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flowersweep.config.schema import Config, Data, Train
from flowersweep.data.dataset import open_dataset
from flowersweep.runtime import start
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.identity import canonical, identity
from flowersweep.training.trial import part_labels
from tests.data.extra.pictures import number_of, save, write_photographs
from tests.tiny import tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, and others beside them: eight of their own, a twin of val, one of train."""
    place = tmp_path_factory.mktemp("place")
    write_photographs(place / "photos")
    for n in range(8):
        save(place / "more" / ("lily", "rose")[n % 2] / f"{n}.jpg", 5000 + n)
    save(place / "more" / "rose" / "val.jpg", number_of("val", "rose", 0), (64, 64), 60)
    save(place / "more" / "rose" / "train.jpg", number_of("train", "rose", 0), (64, 64), 60)
    return place


@pytest.fixture(scope="module")
def config(place: Path) -> Callable[..., Config]:
    def make(*, folds: int = 1, train_on: str = "train", finetune: bool = False) -> Config:
        data = Data(
            name="folder",
            format="folder",
            dir=str(place / "photos"),
            image_size=32,
            extra=[str(place / "more")],
            folds=folds,
            train_on=train_on,
        )
        train = Train(name="x", epochs=3, batch_per_replica=4, min_head_steps=0, finetune=finetune)
        return tiny(data=data, train=train)

    return make


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> TrainingContext:
    cache = tmp_path_factory.mktemp("cache")
    return TrainingContext(start(cache / "compiled"), cache, lambda what, done, total: None)


@pytest.mark.parametrize(
    "settings", [{}, {"folds": 3}, {"train_on": "all"}, {"finetune": True}], ids=str
)
def test_a_trial_that_was_cut_is_the_one_that_was_not(
    settings: dict[str, object], config: Callable[..., Config], context: TrainingContext
) -> None:
    made = config(**settings)
    whole, _ = trial.advance(made, Checkpoint(), 3, context)
    first, _ = trial.advance(made, Checkpoint(), 1, context)
    second, _ = trial.advance(made, first, 3, context)
    one, other = (trial.finish(made, each, context) for each in (whole, second))
    assert one.metrics == other.metrics
    for part, logits in one.logits.items():
        np.testing.assert_array_equal(logits, other.logits[part])


@pytest.mark.parametrize(("folds", "judged"), [(1, 4), (3, 12)])
def test_extra_images_are_trained_on_and_never_judged(
    folds: int, judged: int, config: Callable[..., Config], context: TrainingContext
) -> None:
    made = config(folds=folds)
    plain = replace(made, data=replace(made.data, extra=[]))
    assert len(context.dataset(made.data).splits["train"]) == 8 + 9
    labels = part_labels(context, made, "tune")
    np.testing.assert_array_equal(labels, part_labels(context, plain, "tune"))
    assert len(labels) == judged
    checkpoint, _ = trial.advance(made, Checkpoint(), 1, context)
    assert len(trial.finish(made, checkpoint, context).logits["tune"]) == judged
    before = trial.advance(plain, Checkpoint(), 1, context)[0]
    assert checkpoint.state is not None
    assert before.state is not None
    assert not np.array_equal(checkpoint.state.weights[0], before.state.weights[0])


def test_a_refit_trains_on_extra_images_and_val_too(
    config: Callable[..., Config], context: TrainingContext
) -> None:
    dataset = context.dataset(config(train_on="all").data)
    assert len(dataset.splits["train"]) == 8 + 9 + 8
    shared = context.get_shared(config(train_on="all"))
    assert shared.train[0].shape[0] == 25
    np.testing.assert_array_equal(np.asarray(shared.train[1]), dataset.splits["train"].labels)


def test_the_identity_of_a_trial_names_its_extra_images(config: Callable[..., Config]) -> None:
    made = config()
    plain = replace(made, data=replace(made.data, extra=[]))
    other = replace(made, data=replace(made.data, extra=["elsewhere"]))
    assert len({identity(each, 1) for each in (made, plain, other)}) == 3
    assert "data.extra" not in canonical(plain, 1), "as before there were extra images"


def test_held_out_images_have_one_name_with_and_without_extra_images(
    config: Callable[..., Config], place: Path
) -> None:
    from flowersweep.workflows.predict import holdout_name

    made = config()
    plain = replace(made, data=replace(made.data, extra=[]))
    names = [holdout_name(open_dataset(each.data, place / "cache"), each) for each in (made, plain)]
    assert names[0] == names[1]
