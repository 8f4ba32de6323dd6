"""Images that are in the data twice are found, whatever was done to their bytes, and others are
not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.data.duplicates import Duplicates, duplicates, of_study
from flowersweep.data.images import compress
from flowersweep.data.records import encode, write_split
from flowersweep.data.synthetic.dataset import write

SIZE = (96, 96)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(
        write(
            classes=10,
            train=12,
            val=8,
            test=2,
            image_size=96,
            cache=tmp_path_factory.mktemp("generated"),
        )
    )


def jpegs(folder: Path, split: str) -> list[tuple[bytes, int]]:
    names = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "class": tf.io.FixedLenFeature([], tf.int64),
    }
    read = (
        tf.io.parse_single_example(raw, names)
        for raw in tf.data.TFRecordDataset(sorted(map(str, (folder / split).glob("*.tfrec"))))
    )
    return [(each["image"].numpy(), int(each["class"])) for each in read]


def opened(folder: Path, cache: Path) -> Dataset:
    return open_dataset(Data(name="planted", dir=str(folder), allow_missing_classes=True), cache)


@pytest.fixture(scope="module")
def planted(flowers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some flowers, of which a few were also put into the other split: re-encoded, smaller, or
    without colour; and plain images.
    """
    train, val = jpegs(flowers, "train")[:120], jpegs(flowers, "val")[:60]
    image = [tf.io.decode_jpeg(jpeg).numpy() for jpeg, _ in train[:4]]
    grey = np.repeat(tf.image.rgb_to_grayscale(image[2]).numpy(), 3, axis=2)
    small = tf.cast(tf.image.resize(image[1], (64, 64), antialias=True), tf.uint8).numpy()
    worse = [
        tf.io.encode_jpeg(image[0], quality=40).numpy(),
        compress(small),
        compress(grey),
        val[7][0],
    ]
    val += [(jpeg, label) for jpeg, (_, label) in zip(worse, [*train[:3], val[7]], strict=True)]
    plain = [(compress(np.full((*SIZE, 3), level, np.uint8)), 0) for level in (0, 90, 91, 255)]
    folder = tmp_path_factory.mktemp("planted")
    for name, records in (("train", train + plain), ("val", val + plain)):
        write_split(
            f"{folder}/{name}",
            [encode(jpeg, f"{name}{n}", label) for n, (jpeg, label) in enumerate(records)],
            SIZE,
        )
    return folder


def records(found: Duplicates) -> list[tuple[str, int, str, int]]:
    names = {"tune": "val", "holdout": "val", "train": "train"}
    return sorted((names[a.part], a.record, names[b.part], b.record) for a, b in found.pairs)


def test_planted_images_are_found_and_nothing_else(planted: Path, tmp_path: Path) -> None:
    dataset = opened(planted, tmp_path)
    found = duplicates(dataset, tmp_path)
    pairs = [
        sorted([(first, one), (second, other)]) for first, one, second, other in records(found)
    ]
    twice = [[("train", n), ("val", 60 + n)] for n in range(3)]
    assert sorted(pairs) == [*twice, [("val", 7), ("val", 63)]]
    half = {
        **dict.fromkeys(dataset.tune.tolist(), "tune"),
        **dict.fromkeys(dataset.holdout.tolist(), "holdout"),
    }
    assert {place.part for pair in found.pairs for place in pair if place.record == 61} == {
        half[61]
    }
    leaked = {60 + n for n in range(3) if half[60 + n] == "holdout"}
    leaked |= (
        {number for number in (7, 63) if half[number] == "holdout"}
        if half[7] != half[63]
        else set()
    )
    assert set(dataset.holdout[found.leaked()].tolist()) == leaked


def test_generated_flowers_are_all_different(flowers: Path, tmp_path: Path) -> None:
    assert duplicates(opened(flowers, tmp_path), tmp_path).pairs == []


def test_what_was_found_is_remembered_as_long_as_the_images_are_the_same(
    planted: Path, tmp_path: Path
) -> None:
    dataset = opened(planted, tmp_path)
    found = duplicates(dataset, tmp_path)
    [kept] = (tmp_path / "verified").glob("duplicates-*.npz")
    with np.load(kept) as held:
        pairs = held["pairs"]
    np.savez(kept, pairs=pairs[:1])
    assert duplicates(dataset, tmp_path).pairs == found.pairs[:1]
    kept.write_bytes(b"torn")
    assert duplicates(dataset, tmp_path).pairs == found.pairs


def test_a_folder_that_has_changed_or_is_gone_is_not_looked_into(
    planted: Path, tmp_path: Path
) -> None:
    dataset = opened(planted, tmp_path)
    data = Data(name="planted", dir=str(planted), allow_missing_classes=True)
    same = of_study(data, dataset.digest, tmp_path, largest=1000)
    assert same is not None
    assert (same.pairs, same.holdout.tolist()) == (
        duplicates(dataset, tmp_path).pairs,
        dataset.holdout.tolist(),
    )
    assert of_study(data, "0" * 16, tmp_path, largest=1000) is None
    gone = replace(data, dir=str(tmp_path / "nowhere"))
    assert of_study(gone, dataset.digest, tmp_path, largest=1000) is None
    assert of_study(data, dataset.digest, tmp_path / "fresh", largest=10) is None
