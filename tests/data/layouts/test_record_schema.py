"""TFRecords of any file name and with other features: what holds image, label and id is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from flowersweep.config.schema import Data
from flowersweep.data import pipeline
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.errors import DataError
from tests.data.tiny_records import jpeg


def write(path: Path, rows: list[dict[str, Any]], compression: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as file:
        for row in rows:
            feature = {name: value_of(value) for name, value in row.items()}
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            file.write(example.SerializeToString())


def value_of(value: Any) -> Any:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, list) and isinstance(value[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=value))
    values = value if isinstance(value, list) else [value]
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def opened(folder: Path, **options: Any) -> Dataset:
    data = Data(name="tfrecords", dir=str(folder))
    return open_dataset(replace(data, **options), folder.parent / "cache")


def rows(image: str, label: str | None, count: int, make: Any = int) -> list[dict[str, Any]]:
    return [
        {image: jpeg(10 * n), **({} if label is None else {label: make(n % 2)})}
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("image", "label", "make", "classes"),
    [
        ("image/encoded", "image/class/label", int, ("class 0", "class 1")),
        ("jpeg", "label", lambda n: [b"rose", b"lily"][n], ("lily", "rose")),
        ("png", "class", lambda n: [int(n == 0), int(n == 1)], ("class 0", "class 1")),
        ("image", "label", lambda n: [float(n == 0), float(n == 1)], ("class 0", "class 1")),
    ],
    ids=["ImageNet", "text", "one-hot", "one-hot floats"],
)
def test_features_and_kinds_of_labels_are_found(
    tmp_path: Path, image: str, label: str, make: Any, classes: tuple[str, ...]
) -> None:
    folder = tmp_path / "records"
    write(folder / "train-00000-of-00001", rows(image, label, 8, make))
    write(folder / "validation-00000-of-00001", rows(image, label, 4, make))
    dataset = opened(folder)
    assert dataset.classes == classes
    first = 1 if classes[0] == "lily" else 0
    assert dataset.splits["train"].labels.tolist() == [first, 1 - first] * 4  # type: ignore[union-attr]
    assert dataset.splits["val"].ids[2] == "validation-00000-of-00001:2"


def test_features_may_be_named_and_a_wrong_name_lists_what_there_is(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    write(folder / "train.tfrecord", rows("picture", "kind", 8))
    named = {"image": "picture", "label": "kind"}
    assert len(opened(folder, columns=named).classes) == 2
    with pytest.raises(DataError, match=r"data\.columns\.label=knid: .* Did you mean \"kind\"\?"):
        opened(folder, columns={**named, "label": "knid"})


@pytest.mark.parametrize("in_memory", [True, False])
def test_val_is_cut_from_records_and_both_read_the_same_files(
    tmp_path: Path, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_memory:
        monkeypatch.setattr(pipeline, "IN_MEMORY", 0)
    folder = tmp_path / "flowers" / "3.0.1"
    for shard in range(2):
        name = f"flowers-train.tfrecord-{shard:05}-of-00002"
        write(folder / name, rows("image", "label", 10), "GZIP")
    (folder / "label.labels.txt").write_text("lily\nrose\n")
    dataset = opened(folder)
    assert dataset.classes == ("lily", "rose")
    train, val = dataset.splits["train"], dataset.splits["val"]
    assert (len(train), len(val)) == (16, 4)
    size = dataset.image_size
    (seen,) = pipeline.in_order(val, size, 8)
    (all_train,) = pipeline.in_order(train, size, 16)
    levels = np.concatenate([seen, all_train])[:, 0, 0, 0].round(-1)
    assert sorted(levels.tolist()) == sorted([*range(0, 100, 10)] * 2)
    for images, labels in pipeline.shuffled(train, size, 8, seed=0, epoch=0):
        assert [*(images[:, 0, 0, 0].round(-1) // 10 % 2)] == [*labels]
    together = opened(folder, train_on="all").splits["train"]
    (both,) = pipeline.in_order(together, size, 20)
    np.testing.assert_array_equal(both, np.concatenate([all_train, seen]))
    assert opened(folder, split_seed=5).digest != dataset.digest
