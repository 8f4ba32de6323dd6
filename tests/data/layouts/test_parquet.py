"""Parquet files as Hugging Face data sets have them: bytes and path, classes in the metadata."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowersweep.config.schema import Data
from flowersweep.data import pipeline
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.errors import DataError
from tests.data.tiny_records import jpeg


def write(path: Path, count: int, *, names: list[str] | None = None, broken: int = -1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {"bytes": b"broken" if n == broken else jpeg(10 * n), "path": f"/etc/{n}"}
        for n in range(count)
    ]
    labels = [n % 2 if names else ("rose", "lily")[n % 2] for n in range(count)]
    table = pa.table({"image": images, "label": labels})
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = json.dumps({"info": {"features": features}}) if names else "{}"
    pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), path)


def opened(folder: Path, **options: Any) -> Dataset:
    data = Data(name="huggingface", format="huggingface", dir=str(folder))
    return open_dataset(replace(data, **options), folder.parent / "cache")


@pytest.mark.parametrize("in_memory", [True, False])
def test_splits_classes_and_images_are_read(
    tmp_path: Path, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_memory:
        monkeypatch.setattr(pipeline, "IN_MEMORY", 0)
    folder = tmp_path / "flowers"
    for shard in range(2):
        write(folder / "data" / f"train-0000{shard}-of-00002.parquet", 4, names=["lily", "rose"])
    write(folder / "data" / "validation-00000-of-00001.parquet", 4, names=["lily", "rose"])
    dataset = opened(folder)
    assert dataset.classes == ("lily", "rose")
    train = dataset.splits["train"]
    assert (len(train), len(dataset.splits["val"])) == (8, 4)
    for images, labels in pipeline.shuffled(train, (8, 8), 4, seed=0, epoch=0):
        assert [*(images[:, 0, 0, 0].round(-1) // 10 % 2)] == [*labels]
    assert np.array_equal(
        pipeline.read_images(train, [5], (8, 8)), pipeline.read_images(train, [1], (8, 8))
    )
    assert opened(folder).digest == dataset.digest


def test_labels_may_be_texts_and_val_is_cut_where_there_is_none(tmp_path: Path) -> None:
    write(tmp_path / "p" / "default" / "train" / "0000.parquet", 10)
    dataset = opened(tmp_path / "p")
    assert dataset.classes == ("lily", "rose")
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 8, "val": 2}


def test_the_digest_changes_with_the_names_of_classes_and_the_column_of_labels(
    tmp_path: Path,
) -> None:
    file = tmp_path / "p" / "train.parquet"
    write(file, 10, names=["lily", "rose"])
    table = pq.read_table(file)
    label = table.column("label")
    pq.write_table(table.append_column("target", label).append_column("mine", label), file)
    (tmp_path / "names.txt").write_text("lily\naster\n")
    digests = [
        opened(tmp_path / "p", **options).digest
        for options in (
            {},
            {"columns": {"label": "mine"}},
            {"classes": str(tmp_path / "names.txt")},
            {"columns": {"label": "label"}},
        )
    ]
    assert len({*digests}) == 3
    assert digests[0] == digests[3]


def test_a_broken_row_and_a_wrong_column_are_named(tmp_path: Path) -> None:
    file = tmp_path / "p" / "train.parquet"
    write(file, 6, broken=3)
    with pytest.raises(DataError, match=rf"{file}, row 3: not one of JPEG"):
        opened(tmp_path / "p")
    with pytest.raises(DataError, match=r"data\.columns\.label=lable: .* Did you mean \"label\"\?"):
        opened(tmp_path / "p", columns={"label": "lable"})
    file.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is no whole Parquet file"):
        opened(tmp_path / "p")
