"""Photographs that a CSV lists: columns by their usual names or named, labels by name or number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.errors import DataError
from tests.data.layouts.test_image_folder import counts, save

ROWS = [(f"img{n}.png", ("lily", "rose")[n % 2]) for n in range(8)]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, (name, _) in enumerate(ROWS):
        save(tmp_path / "images" / name, number)
    return tmp_path / "images"


def opened(folder: Path, text: str, **options: Any) -> Dataset:
    table = folder.parent / "labels.csv"
    table.write_text(text, encoding="utf-8")
    data = Data(name="csv", format="csv", file=str(table), dir=str(folder))
    return open_dataset(replace(data, **options), folder.parent / "cache")


def table(heading: str = "filename,label", rows: Any = ROWS, delimiter: str = ",") -> str:
    return "\n".join([heading, *(delimiter.join(map(str, row)) for row in rows)]) + "\n"


@pytest.mark.parametrize(
    ("heading", "options"),
    [
        ("filename,label", {}),
        ("Image_Path,Class", {}),
        ("id,category", {}),
        ("picture,what", {"columns": {"image": "picture", "label": "what", "split": None}}),
    ],
)
def test_columns_are_found_by_their_usual_names_or_named(
    images: Path, heading: str, options: dict[str, Any]
) -> None:
    dataset = opened(images, table(heading), **options)
    assert dataset.classes == ("lily", "rose")
    assert counts(dataset) == {"train": 6, "val": 2}


@pytest.mark.parametrize("change", ["nothing", "pixel", "label", "name", "class"])
def test_the_digest_changes_with_a_pixel_a_label_and_a_name(images: Path, change: str) -> None:
    before = opened(images, table()).digest
    rows = [*ROWS]
    if change == "pixel":
        save(images / "img3.png", 99)
    elif change == "label":
        rows[3] = ("img3.png", "lily")
    elif change == "name":
        (images / "img3.png").rename(images / "other.png")
        rows[3] = ("other.png", "rose")
    elif change == "class":
        rows = [(name, label.replace("rose", "aster")) for name, label in ROWS]
    assert (opened(images, table(rows=rows)).digest == before) == (change == "nothing")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_ids_without_a_suffix_and_other_delimiters_are_read(images: Path, delimiter: str) -> None:
    rows = [(name.removesuffix(".png"), label) for name, label in ROWS]
    text = "\ufeff" + table(f"id{delimiter}label", rows, delimiter).replace("\n", "\r\n")
    assert sum(counts(opened(images, text)).values()) == 8


def test_a_column_of_splits_is_followed_and_test_needs_no_label(images: Path) -> None:
    splits = ["train"] * 4 + ["valid"] * 2 + ["test"] * 2
    rows = [
        (name, "" if split == "test" else label, split)
        for (name, label), split in zip(ROWS, splits, strict=True)
    ]
    dataset = opened(images, table("filename,label,split", rows))
    assert counts(dataset) == {"train": 4, "val": 2, "test": 2}
    assert dataset.splits["test"].labels is None


def test_a_column_of_folds_is_no_split(images: Path) -> None:
    rows = [(*row, number % 5) for number, row in enumerate(ROWS)]
    assert counts(opened(images, table("filename,label,fold", rows))) == {"train": 6, "val": 2}


def test_labels_may_be_numbers_with_or_without_names(images: Path, tmp_path: Path) -> None:
    rows = [(name, 9 + number % 2) for number, (name, _) in enumerate(ROWS)]
    assert opened(images, table(rows=rows)).classes == ("9", "10")
    names = tmp_path / "names.txt"
    names.write_text("aster\nbeech\n")
    rows = [(name, number % 2) for number, (name, _) in enumerate(ROWS)]
    dataset = opened(images, table(rows=rows), classes=str(names))
    assert dataset.classes == ("aster", "beech")
    assert {*dataset.splits["train"].labels} == {0, 1}  # type: ignore[misc]


ONE_MORE: dict[str, tuple[Any, str]] = {
    "above": (("../labels.csv", "lily"), "line 10: .* lies outside of"),
    "absolute": (("/etc/hostname", "lily"), "line 10: .* lies outside of"),
    "a link to no image": (("link.png", "lily"), "link.png: not one of JPEG"),
    "not there": (("gone", "lily"), "line 10: no image gone"),
    "twice": (ROWS[0], "line 10: img0.png stands in line 2 too"),
    "no label": (("img1.png", ""), "line 10: img1.png"),
    "too many": (("a", "b", "c"), "line 10: another number of values"),
}
SPLITS = [(*row, "mine" if n == 7 else "train") for n, row in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        *(
            pytest.param(table(rows=[*ROWS, row]), told, id=id)
            for id, (row, told) in ONE_MORE.items()
        ),
        pytest.param(
            table("filename,word"), "no column label.*Columns: filename, word", id="no column"
        ),
        pytest.param("filename,label\n", "lists no image", id="no row"),
        pytest.param(table("file,label,split", SPLITS), "'mine' is no split", id="another split"),
    ],
)
def test_a_table_that_cannot_be_followed_is_explained_by_line(
    images: Path, text: str, told: str
) -> None:
    (images / "link.png").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match=told):
        opened(images, text)


def test_the_table_is_required_and_its_folder_is_the_usual_one(images: Path) -> None:
    with pytest.raises(DataError, match="data=csv has no folder"):
        open_dataset(Data(name="csv", format="csv"), images / "cache")
    (images / "labels.csv").write_text(table())
    data = Data(name="csv", format="csv", file=str(images / "labels.csv"))
    assert sum(counts(open_dataset(data, images.parent / "cache")).values()) == 8
