"""A split of several kinds of files is read as one of a single kind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flowersweep.data import pipeline
from flowersweep.data.dataset import Dataset, train_on_all
from flowersweep.data.extra.joined import JoinedReader
from flowersweep.data.pipeline import in_order, read_images, shuffled
from flowersweep.data.readers import FileReader
from tests.data.extra.opening import opened
from tests.data.extra.pictures import encoded, save
from tests.data.layouts.test_record_schema import write

SIZE = (24, 24)


@pytest.fixture
def mixed(photos: Path, tmp_path: Path) -> Dataset:
    """Files, then records of two kinds of which some are not wanted, then files again."""
    rows = [
        {"image": encoded(6000 + n), "class": [b"rose", b"aster", b"lily"][n % 3]} for n in range(9)
    ]
    write(tmp_path / "records" / "a.tfrec", rows[:5])
    write(tmp_path / "records" / "b.tfrec", rows[5:])
    rows = [{"jpeg": encoded(6100 + n), "label": b"lily"} for n in range(3)]
    write(tmp_path / "zipped" / "c.tfrec", rows, "GZIP")
    save(tmp_path / "files" / "rose" / "d.jpg", 6200)
    places = [tmp_path / name for name in ("records", "zipped", "files")]
    return opened(photos, *places)


def known(dataset: Dataset) -> Counter[tuple[int, int]]:
    train = dataset.splits["train"]
    assert train.labels is not None
    images = np.concatenate([*in_order(train, SIZE, 5)])
    assert len(images) == len(train)
    return Counter(zip(images.sum((1, 2, 3)).tolist(), train.labels.tolist(), strict=True))


@pytest.mark.parametrize("all_", [False, True], ids=["train", "train and val"])
@pytest.mark.parametrize("memory", [pipeline.IN_MEMORY, 0], ids=["in memory", "through a buffer"])
def test_every_image_comes_once_an_epoch_with_its_label(
    mixed: Dataset, memory: int, all_: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "IN_MEMORY", memory)
    dataset = train_on_all(mixed) if all_ else mixed
    train = dataset.splits["train"]
    assert isinstance(train.reader, JoinedReader)
    assert len(train) == 8 + 6 + 3 + 1 + 8 * all_
    batch, orders = 2, []
    for epoch in (0, 1):
        batches = list(shuffled(train, SIZE, batch, seed=0, epoch=epoch))
        seen = Counter(
            (int(image.sum()), int(label))
            for images, labels in batches
            for image, label in zip(images.astype(int), labels, strict=True)
        )
        assert seen == known(dataset)
        orders.append([labels.tolist() for _, labels in batches])
        again = list(shuffled(train, SIZE, batch, seed=0, epoch=epoch, skip=3))
        for (one, _), (other, _) in zip(batches[3:], again, strict=True):
            np.testing.assert_array_equal(one, other)
    assert orders[0] != orders[1]


def test_images_are_found_by_index(mixed: Dataset) -> None:
    train = mixed.splits["train"]
    whole = np.concatenate([*in_order(train, SIZE, 5)])
    rows = [17, 3, 9, 12, 3, 15]
    np.testing.assert_array_equal(read_images(train, rows, SIZE), whole[rows])


def test_files_of_one_kind_are_read_by_one_reader(photos: Path, tmp_path: Path) -> None:
    save(tmp_path / "more" / "rose" / "a.jpg", 6200)
    dataset = opened(photos, tmp_path / "more")
    assert dataset.splits["train"].reader == FileReader()
    assert train_on_all(dataset).splits["train"].reader == FileReader()
