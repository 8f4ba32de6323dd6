"""Small pictures of some images, decoded at reduced size: alone, or as a sheet a class."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from flowersweep.data.dataset import Dataset
from flowersweep.data.images import decode_reduced

T = TypeVar("T")
Place = tuple[str, int]  # split, and number of the image in it
Done = Callable[[int], None]  # is called with the number of pictures so far

SIDE = 128  # pixels of the longer side of a picture
TILE, COLUMNS = 64, 4  # of a sheet: pixels of a square picture, and how many stand in a row
SHEETS = 1000  # at most: of more classes some are shown
# images of each class, by the number of classes that are shown
_IMAGES = ((200, 12), (400, 8), (SHEETS, 4))
SHEET_BYTES = 4_500_000  # of all sheets together
_QUALITIES = (82, 65, 45, 25, 10)  # of their JPEGs: the best that fits


@dataclass(frozen=True)
class Sheet:
    """Pictures of one class in one JPEG."""

    label: int
    images: int  # shown
    of: int
    jpeg: bytes
    width: int  # pixels
    height: int


def read_pictures(dataset: Dataset, places: Iterable[Place], done: Done) -> dict[Place, bytes]:
    """Return a JPEG of each image, `SIDE` pixels wide or high."""
    return _read(dataset, {*places}, _whole, done)


def contact_sheets(dataset: Dataset, done: Done) -> list[Sheet]:
    """Return a sheet of each class that has images, in the order of classes.

    Of many images some are shown, evenly spaced in their order, and of more than `SHEETS` classes
    some. The best quality is taken with which all JPEGs together fit into `SHEET_BYTES`.
    """
    of_class = images_of_classes(dataset)
    labels = spaced([label for label, places in enumerate(of_class) if places], SHEETS)
    most = next(images for classes, images in _IMAGES if len(labels) <= classes)
    chosen = {label: spaced(of_class[label], most) for label in labels}
    tiles = _read(dataset, {place for places in chosen.values() for place in places}, _tile, done)
    drawn = [_drawn([tiles[place] for place in places]) for places in chosen.values()]
    for quality in _QUALITIES:
        jpegs = [_jpeg(sheet, quality) for sheet in drawn]
        if sum(map(len, jpegs)) <= SHEET_BYTES:
            break
    return [
        Sheet(label, len(chosen[label]), len(of_class[label]), jpeg, sheet.width, sheet.height)
        for label, jpeg, sheet in zip(chosen, jpegs, drawn, strict=True)
    ]


def images_of_classes(dataset: Dataset) -> list[list[Place]]:
    """Return the labelled images of each class, those of train first."""
    images: list[list[Place]] = [[] for _ in dataset.classes]
    for name, split in dataset.splits.items():
        if split.labels is not None:
            for row, label in enumerate(split.labels.tolist()):
                images[label].append((name, row))
    return images


def spaced(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many of some items, evenly spaced."""
    count = min(most, len(items))
    return [items[n * len(items) // count] for n in range(count)]


def _read(
    dataset: Dataset, places: set[Place], draw: Callable[[Image.Image], T], done: Done
) -> dict[Place, T]:
    decode = partial(decode_reduced, least=(SIDE, SIDE))
    pictures: dict[Place, T] = {}
    for name, split in dataset.splits.items():
        rows = np.array(sorted(row for part, row in places if part == name), np.int64)
        if len(rows):
            images = split.reader.images(split.files, split.in_files(rows), decode)
            for row, pixels in zip(rows.tolist(), images.as_numpy_iterator(), strict=True):
                pictures[name, row] = draw(Image.fromarray(pixels))
                done(len(pictures))
    return pictures


def _whole(image: Image.Image) -> bytes:
    image.thumbnail((SIDE, SIDE))
    return _jpeg(image, _QUALITIES[0])


def _tile(image: Image.Image) -> Image.Image:
    return ImageOps.fit(image, (TILE, TILE))


def _drawn(tiles: Sequence[Image.Image]) -> Image.Image:
    columns = min(COLUMNS, len(tiles))
    sheet = Image.new("RGB", (TILE * columns, TILE * -(-len(tiles) // columns)), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (TILE * (number % columns), TILE * (number // columns)))
    return sheet


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()
