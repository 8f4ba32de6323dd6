"""Read a place of more training images: any that ``data`` reads, with classes matched by name."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from flowersweep.config.schema import Data
from flowersweep.data.inventory import (
    Inventory,
    Part,
    inventory_of_files,
    inventory_of_parquet,
    inventory_of_records,
)
from flowersweep.data.layouts.image_folder import list_folder
from flowersweep.data.layouts.image_table import list_table
from flowersweep.data.layouts.inspection import LabelledFiles, chosen
from flowersweep.data.layouts.suggestions import likely_format
from flowersweep.data.places import find_all_files, find_folder
from flowersweep.data.verify import check_labels
from flowersweep.errors import DataError

_T = TypeVar("_T")
NO_CLASS, NO_LABEL, NO_IMAGE = "class is not in the data", "no label", "cannot be read"
_TABLES = (".csv", ".tsv")
_LISTED = 8  # class names in an error message
_CLOSEST = 3  # pairs of names in an error message
_ALIKE = 0.6  # of two names that may mean one class
_LISTERS: dict[str, Callable[[Data, str], dict[str, LabelledFiles]]] = {
    "folder": list_folder,
    "csv": list_table,
}


class LeftOut(NamedTuple):
    """What is not trained on: an image, or all images of a class."""

    source: str
    reason: str
    label: str = ""  # name of the class
    image: str = ""  # its id; empty: all of the class
    twin: str = ""  # part and id of the image that it is nearly the same as
    images: int = 1


@dataclass(frozen=True)
class Source:
    """The labelled images of one place whose classes the data has."""

    path: str  # as it was named
    parts: tuple[Part, ...]  # labels are indexes of the data's classes
    digest: str
    left_out: tuple[LeftOut, ...]


def require_places(paths: Sequence[str]) -> None:
    """Raise DataError for a place of ``data.extra`` that is not there, or holds no images."""
    for path in paths:
        _explained(path, partial(settings_of, path, Data()))
    if repeated := [path for path, count in Counter(map(_real, paths)).items() if count > 1]:
        raise DataError(f"data.extra names {repeated[0]} twice. Name it once.")


def settings_of(path: str, data: Data) -> Data:
    """Return how a place is read, which is found out by what it holds.

    Args:
        path: A folder, a table, or an address of TFRecords.
        data: The data that it adds to. Its columns hold where the format is the same.
    """
    place = os.path.expanduser(path).rstrip("/")
    table = place.casefold().endswith(_TABLES) and os.path.isfile(place)
    folder = os.path.dirname(os.path.abspath(place)) if table else place
    if "://" in place:
        format = "tfrecords"
    elif table:
        format = "csv"
    elif not os.path.isdir(folder):
        raise DataError(f"there is no such folder or table, seen from {os.getcwd()}.")
    elif (likely := likely_format(folder)) is None:
        raise DataError(
            "neither folders of images, nor TFRecords, Parquet files or a table in it. Name a "
            "folder that holds CLASS/*.jpg, or the table itself: PATH/labels.csv"
        )
    else:
        format = likely
    return Data(
        name=format,
        format=format,
        dir=folder,
        file=place if table else _only_table(folder) if format == "csv" else None,
        columns=data.columns if data.format == format else {},
        skip_unreadable=data.skip_unreadable,
        allow_missing_classes=True,
    )


def read_source(path: str, data: Data, classes: Sequence[str], cache: Path) -> Source:
    """Return the images of a place that have a class of the data, from all of its splits.

    Image files of other classes are not opened.

    Raises:
        DataError: The place has no class of the data, or what ``data`` would say of it.
    """
    return _explained(path, lambda: _source(path, data, classes, cache))


def _explained(path: str, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except DataError as error:
        raise DataError(f"data.extra={path}: {error}") from error


def _source(path: str, data: Data, classes: Sequence[str], cache: Path) -> Source:
    own = settings_of(path, data)
    folder = find_folder(own, cache)
    read = _of_files if own.format in _LISTERS else _of_records
    inventory, left = read(path, own, folder, classes, cache)
    parts = tuple(_indexed(inventory, _places(classes)))
    # the same records have other labels where their classes are named otherwise
    what = [
        [part.records.labels.tolist(), None if part.rows is None else part.rows.tolist()]
        for part in parts
    ]
    digest = hashlib.sha256(json.dumps([inventory.digest, what]).encode()).hexdigest()[:16]
    return Source(path, parts, digest, tuple(left))


def _of_files(
    path: str, own: Data, folder: str, classes: Sequence[str], cache: Path
) -> tuple[Inventory, list[LeftOut]]:
    listed = _LISTERS[own.format](own, folder)
    left = _unlabelled(path, sum(len(part.files) for part in listed.values() if not part.labels))
    counts = Counter(label for part in listed.values() for label in part.labels)
    left += _unknown(path, counts, classes)
    inventory = inventory_of_files(own, dict(_of_classes(listed, _places(classes))), cache)
    for remark in inventory.remarks:  # "left out, FILE: what is wrong"
        file, _, fault = remark.removeprefix("left out, ").partition(": ")
        left.append(LeftOut(path, f"{NO_IMAGE}: {fault}", image=file))
    return inventory, left


def _of_records(
    path: str, own: Data, folder: str, classes: Sequence[str], cache: Path
) -> tuple[Inventory, list[LeftOut]]:
    inventory = _with_names(own, folder, cache)
    names = inventory.classes or ()
    labels = np.concatenate([part.records.labels for part in inventory.parts.values()])
    numbers, images = np.unique(labels[labels >= 0], return_counts=True)
    counts = dict(zip([names[number] for number in numbers], images.tolist(), strict=True))
    left = _unlabelled(path, int((labels < 0).sum()))
    return inventory, left + _unknown(path, counts, classes)


def _with_names(own: Data, folder: str, cache: Path) -> Inventory:
    """Return what is in files of records, whose classes something names."""
    if own.format == "tfrecords":
        inventory = inventory_of_records(own, folder, find_all_files(folder), cache)
    else:
        inventory = inventory_of_parquet(own, folder, cache)
    if inventory.classes is None:
        raise DataError(
            "its labels are numbers, and nothing says what they mean; classes are matched by name. "
            f"Write {folder}/classes.txt, one class name a line, in index order."
        )
    for part in inventory.parts.values():
        if (part.records.labels >= 0).any():
            check_labels(part.files, part.records, len(inventory.classes))
    return inventory


def _of_classes(
    listed: Mapping[str, LabelledFiles], places: Mapping[str, int]
) -> Iterator[tuple[str, LabelledFiles]]:
    for split, part in listed.items():
        some = chosen(part, [_plain(label) in places for label in part.labels])
        if some.files:
            yield split, some


def _indexed(inventory: Inventory, places: Mapping[str, int]) -> Iterator[Part]:
    """Yield the images whose class the data has, with its indexes for labels."""
    index = np.array([places.get(_plain(name), -1) for name in inventory.classes or ()], np.int64)
    for part in inventory.parts.values():
        labels = part.records.labels
        labels = np.where(labels >= 0, index[labels], -1)
        wanted = replace(part, records=replace(part.records, labels=labels))
        rows = np.flatnonzero(labels >= 0)
        if len(rows):
            yield wanted if len(rows) == len(labels) else wanted.take(rows)


def _unlabelled(path: str, images: int) -> list[LeftOut]:
    return [LeftOut(path, NO_LABEL, images=images)] if images else []


def _unknown(path: str, counts: Mapping[str, int], classes: Sequence[str]) -> list[LeftOut]:
    """Return the classes that the data lacks. Raises DataError if it lacks all of them."""
    if not counts:
        raise DataError("no image of it has a label. Put each into a folder of its class's name.")
    places = _places(classes)
    unknown = {name: count for name, count in counts.items() if _plain(name) not in places}
    if len(unknown) == len(counts):
        raise DataError(
            f"none of its classes is one of the data, and they are matched by name. It has "
            f"{_some([*counts])}; the data has {_some(classes)}.{_closest([*counts], classes)} "
            "Rename its classes, or leave it out of data.extra."
        )
    return [LeftOut(path, NO_CLASS, name, images=count) for name, count in sorted(unknown.items())]


def _closest(names: Sequence[str], classes: Sequence[str]) -> str:
    """Name the pairs of names that are most alike, if any are."""
    ratios = sorted(
        (
            (SequenceMatcher(None, _loose(name), _loose(known)).ratio(), name, known)
            for name in names[:200]
            for known in classes[:200]
        ),
        reverse=True,
    )
    pairs = [f"{a!r} and {b!r}" for ratio, a, b in ratios[:_CLOSEST] if ratio >= _ALIKE]
    return f" Closest: {', '.join(pairs)}." if pairs else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(repr, names[:_LISTED])) + more


def _places(classes: Sequence[str]) -> dict[str, int]:
    return {_plain(name): index for index, name in enumerate(classes)}


def _plain(name: str) -> str:
    """Return a name as it is compared: systems of files write accents in two ways."""
    return unicodedata.normalize("NFC", name)


def _loose(name: str) -> str:
    return _plain(name).casefold().replace("_", " ")


def _only_table(folder: str) -> str:
    tables = [entry for entry in sorted(os.listdir(folder)) if entry.casefold().endswith(".csv")]
    if len(tables) != 1:
        raise DataError(
            f"{len(tables)} tables lie in it. Name the one that is meant: "
            "data.extra=[PATH/NAME.csv]"
        )
    return os.path.join(folder, tables[0])


def _real(path: str) -> str:
    return path if "://" in path else os.path.realpath(os.path.expanduser(path))
