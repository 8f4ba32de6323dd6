"""More training images come from folders, tables, TFRecords and Parquet, by names of classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowersweep.errors import DataError
from tests.data.extra.opening import labels_by_id, opened
from tests.data.extra.pictures import encoded, save
from tests.data.layouts.test_record_schema import write

CLASSES = ("aster", "rose", "lily")  # in another order than in the data, and one that it lacks


def folder(place: Path) -> Path:
    for number, name in enumerate(CLASSES):
        for image in range(2):
            save(place / name / f"{image}.jpg", 5000 + 10 * number + image)
    return place


def folder_of_splits(place: Path) -> Path:
    for split, name, number in (
        ("train", "rose", 1),
        ("valid", "aster", 2),
        ("valid", "lily", 3),
        ("train", "aster", 4),
        ("test", "rose", 5),
        ("test", "lily", 6),
    ):
        save(place / split / name / f"{number}.jpg", 5000 + number)
    return place


def table(place: Path) -> Path:
    rows = ["file,label"]
    for number, name in enumerate(2 * CLASSES):
        save(place / f"{number}.jpg", 5000 + number)
        rows.append(f"{number}.jpg,{name}")
    (place / "labels.csv").write_text("\n".join(rows))
    return place / "labels.csv"


def table_and_images(place: Path) -> Path:
    return table(place).parent


def records_of_numbers(place: Path) -> Path:
    rows = [{"image": encoded(5000 + n), "class": n % 3, "id": b"%d" % n} for n in range(6)]
    write(place / "00-96x96-6.tfrec", rows)
    (place / "classes.txt").write_text("\n".join(CLASSES))
    return place


def records_of_texts(place: Path) -> Path:
    rows = [{"jpeg": encoded(5000 + n), "label": CLASSES[n % 3].encode()} for n in range(6)]
    write(place / "flowers-train.tfrecord", rows[:4])
    write(place / "flowers-validation.tfrecord", rows[4:])
    return place


def parquet(place: Path) -> Path:
    place.mkdir()
    columns = {
        "image": [{"bytes": encoded(5000 + n), "path": None} for n in range(6)],
        "label": [CLASSES[n % 3] for n in range(6)],
    }
    pq.write_table(pa.table(columns), place / "train.parquet")
    return place


@pytest.mark.parametrize(
    "make",
    [
        folder,
        folder_of_splits,
        table,
        table_and_images,
        records_of_numbers,
        records_of_texts,
        parquet,
    ],
)
def test_images_of_classes_with_the_same_name_join_train(
    make: Callable[[Path], Path], photos: Path, tmp_path: Path
) -> None:
    place = make(tmp_path / "more")
    plain, dataset = opened(photos), opened(photos, place)
    assert sorted(labels_by_id(dataset).values()) == ["lily", "lily", "rose", "rose"]
    assert len(dataset.splits["train"]) == len(plain.splits["train"]) + 4
    assert dataset.classes == plain.classes == ("lily", "rose")
    assert sum(each.images for each in dataset.extra.left_out) == 2
    assert {each.label for each in dataset.extra.left_out} == {"aster"}
    [remark] = [each for each in dataset.remarks if each.startswith("data.extra")]
    assert "train gets 4 images" in remark
    assert "2 (class is not in the data); classes that the data lacks: aster" in remark
    for split in ("val", "test"):
        assert [*dataset.splits[split].ids] == [*plain.splits[split].ids]


def test_a_place_without_a_class_of_the_data_is_refused_before_its_images_are_read(
    photos: Path, tmp_path: Path
) -> None:
    for name in ("Lily", "rosa canina"):
        (tmp_path / "more" / name).mkdir(parents=True)
        (tmp_path / "more" / name / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError) as refused:
        opened(photos, tmp_path / "more")
    assert "none of its classes is one of the data" in str(refused.value)
    assert "It has 'Lily', 'rosa canina'; the data has 'lily', 'rose'" in str(refused.value)
    assert "Closest: 'Lily' and 'lily'" in str(refused.value)


def test_accents_that_systems_of_files_write_in_two_ways_are_one_name(tmp_path: Path) -> None:
    composed, taken_apart = (
        unicodedata.normalize(form, "Gänseblümchen") for form in ("NFC", "NFD")
    )
    for n in range(4):
        save(tmp_path / "p" / composed / f"{n}.jpg", n)
        save(tmp_path / "p" / "rose" / f"{n}.jpg", 10 + n)
    save(tmp_path / "more" / taken_apart / "a.jpg", 20)
    dataset = opened(tmp_path / "p", tmp_path / "more")
    assert labels_by_id(dataset) == {f"{taken_apart}/a.jpg": composed}


def test_numbers_that_nothing_names_are_refused(photos: Path, tmp_path: Path) -> None:
    (records_of_numbers(tmp_path / "more") / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"matched by name. Write .*classes.txt"):
        opened(photos, tmp_path / "more")


def test_images_without_a_label_and_files_that_cannot_be_read_are_left_out_and_listed(
    photos: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    save(more / "train" / "rose" / "a.jpg", 5000)
    (more / "train" / "rose" / "broken.jpg").write_bytes(b"no picture")
    (more / "train" / "aster").mkdir()
    (more / "train" / "aster" / "broken.jpg").write_bytes(b"of a class that is not opened")
    save(more / "test" / "flat.jpg", 5001)
    with pytest.raises(DataError, match=r"data.extra=.*broken.jpg: not one of JPEG"):
        opened(photos, more)
    dataset = opened(photos, more, skip_unreadable=True)
    assert labels_by_id(dataset) == {"rose/a.jpg": "rose"}
    reasons = {each.reason.partition(":")[0]: each for each in dataset.extra.left_out}
    assert reasons.keys() == {"no label", "class is not in the data", "cannot be read"}
    assert reasons["cannot be read"].image == str(more / "train" / "rose" / "broken.jpg")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nowhere"], "no such folder or table"),
        (["photos/train", "photos/../photos/train"], "twice"),
        (["empty"], "neither folders of images"),
        (["two"], "2 tables"),
    ],
)
def test_a_place_that_cannot_be_read_is_refused_before_the_data_is(
    names: list[str], message: str, tmp_path: Path
) -> None:
    save(tmp_path / "photos" / "train" / "rose" / "a.jpg", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "two" / name).write_text("file,label\n")
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "no data", *(tmp_path / name for name in names))


def test_a_table_is_read_with_the_columns_of_a_table_that_it_adds_to(tmp_path: Path) -> None:
    for place, first in (("own", 0), ("more", 100)):
        rows = ["picture,what"]
        for number in range(8):
            save(tmp_path / place / f"{number}.jpg", first + number)
            rows.append(f"{number}.jpg,{('lily', 'rose')[number % 2]}")
        (tmp_path / place / "labels.csv").write_text("\n".join(rows))
    columns = {"image": "picture", "label": "what", "split": None}
    dataset = opened(
        tmp_path / "own", tmp_path / "more", format="csv", file="labels.csv", columns=columns
    )
    assert len(dataset.extra.rows) == 8
