"""What a person sees of a data set: headers, small pictures, sheets, and what was passed over."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.data.overview import passed_over as looking
from flowersweep.data.overview import pictures
from flowersweep.data.overview.headers import read_headers
from flowersweep.data.overview.passed_over import passed_over, unreadable
from flowersweep.data.overview.pictures import contact_sheets, read_pictures, spaced
from tests.data.layouts.test_image_folder import save

ON_ITS_SIDE = 6  # a value of EXIF's orientation


def folder_of(path: Path) -> Data:
    return Data(name="folder", format="folder", dir=str(path))


def opened(data: Data) -> Dataset:
    return open_dataset(data, Path(str(data.dir)).parent / "cache")


def noise(path: Path, size: tuple[int, int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two classes of pictures of many formats, modes and sizes."""
    folder = tmp_path / "mixed"
    for name in ("lily", "rose"):
        exif = Image.Exif()
        exif[0x0112] = ON_ITS_SIDE
        save(folder / name / "turned.jpg", 10, (300, 200), exif=exif)
        Image.new("L", (40, 30)).save(folder / name / "grey.png")
        Image.new("P", (40, 30)).save(folder / name / "palette.gif")
        Image.new("CMYK", (40, 30)).save(folder / name / "print.jpg")
        Image.new("RGBA", (40, 30)).save(folder / name / "clear.webp")
    return folder


def test_headers_say_format_mode_and_upright_size_without_decoding(mixed: Path) -> None:
    dataset, numbers = opened(folder_of(mixed)), list[int]()
    split = dataset.splits["train"]
    headers = read_headers(split, numbers.append)
    of_id = {
        id: (kind, size)
        for id, kind, size in zip(split.ids, headers.kinds, headers.sizes.tolist(), strict=True)
    }
    known = {
        "turned.jpg": ("JPEG RGB", [200, 300]),
        "grey.png": ("PNG L", [30, 40]),
        "palette.gif": ("GIF P", [30, 40]),
        "print.jpg": ("JPEG CMYK", [30, 40]),
        "clear.webp": ("WEBP RGBA", [30, 40]),
    }
    assert {id: of_id[id] for id in of_id} == {id: known[id.partition("/")[2]] for id in of_id}
    assert numbers[-1] == len(split)


def test_a_picture_keeps_its_proportions_and_is_small(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(2):
            noise(tmp_path / "p" / name / f"{number}.jpg", (900, 300), number)
    dataset = opened(folder_of(tmp_path / "p"))
    read = read_pictures(dataset, [("train", 1), ("val", 0), ("train", 1)], lambda done: None)
    assert [*read] == [("train", 1), ("val", 0)]
    for jpeg in read.values():
        image = Image.open(io.BytesIO(jpeg))
        assert image.size == (round(pictures.SIDE / 3), pictures.SIDE)


def test_a_sheet_shows_some_of_the_images_evenly_spaced(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / "p" / "a" / f"{number:02}.png", 6 * number)
    for number in range(3):
        save(tmp_path / "p" / "b" / f"{number}.png", 255)
    dataset = opened(folder_of(tmp_path / "p"))
    first, second = contact_sheets(dataset, lambda done: None)
    assert (first.label, first.images, first.of) == (0, 12, 40)
    assert (second.label, second.images, second.of) == (1, 3, 3)
    assert (first.width, first.height) == (4 * pictures.TILE, 3 * pictures.TILE)
    assert Image.open(io.BytesIO(first.jpeg)).size == (first.width, first.height)
    again = contact_sheets(dataset, lambda done: None)
    assert [sheet.jpeg for sheet in again] == [first.jpeg, second.jpeg]
    assert spaced(range(10), 4) == [0, 2, 5, 7]
    assert spaced("ab", 4) == ["a", "b"]


def test_sheets_of_any_images_stay_within_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in range(12):
        for number in range(3):
            noise(tmp_path / "p" / f"{label:02}" / f"{number}.png", (64, 64), 3 * label + number)
    dataset = opened(folder_of(tmp_path / "p"))
    free = sum(len(sheet.jpeg) for sheet in contact_sheets(dataset, lambda done: None))
    monkeypatch.setattr(pictures, "SHEET_BYTES", free // 2)
    assert sum(len(sheet.jpeg) for sheet in contact_sheets(dataset, lambda done: None)) <= free // 2
    monkeypatch.setattr(pictures, "SHEETS", 4)
    monkeypatch.setattr(pictures, "_IMAGES", ((4, 2),))
    sheets = contact_sheets(dataset, lambda done: None)
    assert [(sheet.label, sheet.images) for sheet in sheets] == [(0, 2), (3, 2), (6, 2), (9, 2)]


def test_files_that_were_passed_over_are_named_by_reason(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mixed / "lily" / "broken.png").write_bytes(b"no image")
    (mixed / "lily" / ".hidden.png").write_bytes(b"")
    (mixed / "__MACOSX").mkdir()
    (mixed / "__MACOSX" / "x.png").write_bytes(b"")
    (mixed / "readme.txt").write_text("mine")
    save(mixed / "loose.png")
    data = replace(folder_of(mixed), skip_unreadable=True)
    dataset = opened(data)
    reasons = {each.reason: each.files for each in passed_over(data, dataset)}
    assert reasons == {
        "images in no class or split": ["loose.png"],
        "hidden files, and copies of names that macOS makes": [
            "__MACOSX/x.png",
            "lily/.hidden.png",
        ],
        "files that are no images by their name": ["readme.txt"],
    }
    assert [text.partition(": ")[0] for text in unreadable(dataset)] == ["lily/broken.png"]
    monkeypatch.setattr(looking, "LISTED", 1)
    hidden = next(each for each in passed_over(data, dataset) if "hidden" in each.reason)
    assert (hidden.count, hidden.files) == (2, ["__MACOSX/x.png"])
    monkeypatch.setattr(looking, "LOOKED_AT", 1)
    assert sum(each.count for each in passed_over(data, dataset)) <= 1
