"""Rare classes come more often, in an epoch of the same length."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowersweep.config.schema import Data
from flowersweep.data import pipeline
from flowersweep.data.dataset import Split, open_dataset
from flowersweep.data.oversampling import oversample
from flowersweep.errors import DataError
from tests.data.tiny_records import split as write_split

COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(sum)


def images_of(counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels of so many images of each class, and a random order of them."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return labels, np.random.default_rng(3).permutation(len(labels))


@given(COUNTS, st.integers(0, 60), st.integers(1, 250))
def test_every_class_comes_as_often_as_asked_or_has_an_even_share(
    counts: list[int], at_least: int, length: int
) -> None:
    labels, order = images_of(counts)
    order = np.resize(order, length)
    changed = oversample(order, labels, at_least, np.random.default_rng(0))
    before, after = (Counter(labels[rows].tolist()) for rows in (order, changed))
    share = min(at_least, length // sum(count > 0 for count in counts))
    assert len(changed) == length
    for label, count in enumerate(counts):
        if count == 0:
            assert after[label] == 0
        elif before[label] < share:
            assert after[label] == share
        else:
            assert share <= after[label] <= before[label]


@given(COUNTS, st.integers(0, 60))
def test_images_of_a_class_come_about_equally_often(counts: list[int], at_least: int) -> None:
    labels, order = images_of(counts)
    changed = oversample(order, labels, at_least, np.random.default_rng(1))
    shown = Counter(changed.tolist())
    for label, count in enumerate(counts):
        often = [shown[image] for image in np.flatnonzero(labels == label)]
        assert count == 0 or max(often) - min(often) <= 1


def test_without_rare_classes_the_order_is_what_it_was() -> None:
    labels, order = images_of([8, 8, 9])
    for at_least in (0, 8):
        rng = np.random.default_rng(0)
        np.testing.assert_array_equal(oversample(order, labels, at_least, rng), order)


def test_what_gives_way_is_drawn_anew_each_time_and_lies_anywhere() -> None:
    labels, order = images_of([200, 2])
    dropped, places = [], []
    for seed in range(20):
        changed = oversample(order, labels, 50, np.random.default_rng(seed))
        dropped.append({*order.tolist()} - {*changed.tolist()})
        places.append(np.flatnonzero(labels[changed] == 1))
    assert all(len(images) == 48 for images in dropped)
    assert len(set.union(*dropped)) > 190
    assert np.concatenate(places).mean() == pytest.approx(100, abs=10)


@pytest.fixture
def train(tmp_path: Path) -> Split:
    """Ten images of class 0, three of class 1 and one of class 2."""
    labels = (0,) * 10 + (1,) * 3 + (2,)
    folder = tmp_path / "rare"
    write_split(folder / "train", labels, len(labels))
    write_split(folder / "val", (0, 1, 2, 0, 1, 2), 6)
    return open_dataset(Data(name="rare", dir=str(folder)), tmp_path / "cache").splits["train"]


def shown(train: Split, **options: int) -> list[tuple[list[int], list[int]]]:
    """Gray and label of the images of each batch of four."""
    batches = pipeline.shuffled(
        train, (8, 8), 4, **{"seed": 0, "epoch": 0, "min_class_images": 4, **options}
    )
    return [
        (np.round(images.mean((1, 2, 3))).astype(int).tolist(), labels.tolist())
        for images, labels in batches
    ]


def test_an_epoch_of_images_has_the_asked_number_and_its_images_have_their_labels(
    train: Split,
) -> None:
    for epoch in range(5):
        batches = shown(train, epoch=epoch)
        assert len(batches) == 3
        pairs = [pair for grays, labels in batches for pair in zip(grays, labels, strict=True)]
        assert Counter(label for _, label in pairs) == {0: 4, 1: 4, 2: 4}
        assert all(label == (gray >= 100) + (gray >= 130) for gray, label in pairs)


def test_it_is_a_pure_function_of_seed_and_epoch_and_goes_on_anywhere(train: Split) -> None:
    whole = shown(train)
    assert whole == shown(train)
    assert whole != shown(train, epoch=1)
    assert whole != shown(train, seed=1)
    for skip in range(4):
        assert shown(train, skip=skip) == whole[skip:]
    # a shorter epoch has no room for four of each
    labels = Counter(label for _, some in shown(train, steps=2) for label in some)
    assert min(labels.values()) == 2
    assert labels.total() == 8


def test_records_that_are_read_in_their_order_are_refused_with_what_to_do(
    train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "IN_MEMORY", 0)
    with pytest.raises(DataError, match=r"train\.min_class_images=0, or one file an image"):
        shown(train)
    assert len(shown(train, min_class_images=0)) == 3
