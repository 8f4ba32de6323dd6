"""Batches: every image once and in order for evaluation; for training a shuffle that seed and epoch
alone decide.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from flowersweep.config.schema import Data
from flowersweep.data import pipeline
from flowersweep.data.dataset import Split, open_dataset
from flowersweep.errors import DataError

SIZE = (8, 8)


@pytest.fixture(params=["in memory", "from files"])
def train(
    request: pytest.FixtureRequest, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Split:
    """Return twelve images of gray 0, 10, …, 110; shuffled in memory, or as if they were too many
    for that.
    """
    if request.param == "from files":
        monkeypatch.setattr(pipeline, "IN_MEMORY", 0)
    return open_dataset(Data(name="tiny", dir=str(tiny)), tmp_path / "cache").splits["train"]


def numbers(images: npt.NDArray[np.uint8]) -> list[int]:
    """Tell which images these are by their gray."""
    return [int(value) for value in np.round(images.mean((1, 2, 3)) / 10)]


def epoch(
    split: Split, seed: int = 0, epoch: int = 0, skip: int = 0, batch: int = 5
) -> list[tuple[list[int], list[int]]]:
    batches = pipeline.shuffled(split, SIZE, batch, seed=seed, epoch=epoch, skip=skip)
    return [(numbers(images), labels.tolist()) for images, labels in batches]


def test_in_order_yields_every_image_once_and_a_shorter_last_batch(train: Split) -> None:
    batches = list(pipeline.in_order(train, SIZE, 5))
    assert [batch.shape for batch in batches] == [(5, 8, 8, 3), (5, 8, 8, 3), (2, 8, 8, 3)]
    assert [number for batch in batches for number in numbers(batch)] == list(range(12))


def test_shuffled_is_a_pure_function_of_seed_and_epoch(train: Split) -> None:
    assert epoch(train) == epoch(train)
    assert epoch(train) != epoch(train, epoch=1)
    assert epoch(train) != epoch(train, seed=1)


def test_shuffled_drops_the_remainder_and_repeats_no_image(train: Split) -> None:
    batches = epoch(train)
    assert [len(images) for images, _ in batches] == [5, 5]
    assert len({number for images, _ in batches for number in images}) == 10


def test_labels_travel_with_their_images(train: Split) -> None:
    assert train.labels is not None
    for images, labels in epoch(train):
        assert labels == train.labels[images].tolist()


def test_skipping_batches_goes_on_where_the_epoch_was(train: Split) -> None:
    assert epoch(train, skip=2, batch=3) == epoch(train, batch=3)[2:]
    assert epoch(train, skip=4, batch=3) == []


def test_labels_are_int32_and_images_uint8(train: Split) -> None:
    images, labels = next(iter(pipeline.shuffled(train, SIZE, 4, seed=0, epoch=0)))
    assert (images.dtype.name, labels.dtype.name) == ("uint8", "int32")


def test_too_large_a_batch_is_an_error(train: Split) -> None:
    with pytest.raises(DataError, match="train has 12 images, fewer than one batch of 13"):
        pipeline.shuffled(train, SIZE, 13, seed=0, epoch=0)


def test_an_unlabelled_split_cannot_be_trained_on(tiny: Path, tmp_path: Path) -> None:
    test = open_dataset(Data(name="tiny", dir=str(tiny)), tmp_path / "cache").splits["test"]
    with pytest.raises(DataError, match="test has no labels"):
        pipeline.shuffled(test, SIZE, 1, seed=0, epoch=0)


def test_images_are_resized_where_they_differ(train: Split) -> None:
    assert next(pipeline.in_order(train, (6, 4), 3)).shape == (3, 6, 4, 3)


def test_images_are_read_by_index_in_the_order_asked_for(train: Split) -> None:
    assert numbers(pipeline.read_images(train, [11, 0, 4, 0])) == [11, 0, 4, 0]
    assert pipeline.read_images(train, [2], (5, 5)).shape == (1, 5, 5, 3)
    assert pipeline.read_images(train, []).shape[0] == 0
    assert pipeline.read_images(train, [3]).shape == (1, 8, 8, 3)


@pytest.mark.parametrize("index", [12, -1])
def test_an_index_beyond_the_split_is_an_error(train: Split, index: int) -> None:
    with pytest.raises(DataError, match=rf"train has no image {index}: it holds images 0 to 11"):
        pipeline.read_images(train, [0, index])
