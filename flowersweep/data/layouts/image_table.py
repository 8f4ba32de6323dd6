"""Photographs that a CSV file lists: columns of images, labels and perhaps splits."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flowersweep.config.schema import Data
from flowersweep.data.files import walk, warn_of_links
from flowersweep.data.images import SUFFIXES
from flowersweep.data.layouts.inspection import LabelledFiles
from flowersweep.data.layouts.split_names import names_of_splits
from flowersweep.errors import DataError, did_you_mean

_USUAL = {  # names of columns, the surest first, without case, spaces and underscores
    "image": (
        *("image", "file", "filename", "filepath", "path", "imagepath", "imagefile", "imagename"),
        *("img", "imgpath", "imageid", "id", "name"),
    ),
    "label": (
        *("label", "class", "category", "target", "classname", "labelname", "species"),
        *("labels", "classid", "labelid"),
    ),
    "split": ("split", "subset", "set", "fold"),
    "id": ("id",),  # of a row in a submission
}
LAYOUT = "data=csv reads data.file=labels.csv, whose images lie in data.dir=PATH."
_ENCODING = "utf-8-sig"  # what spreadsheets write begins with a byte order mark


class _Row(NamedTuple):
    line: int
    image: str
    label: str
    split: str


def list_table(data: Data, folder: str) -> dict[str, LabelledFiles]:
    """Return the files of each split that a table lists, in its order.

    A column of splits is used where its values are names of splits; numbers, as of folds, are not.

    Raises:
        DataError: The table cannot be read, lacks a column or a value, or names an image twice or
            one that is not in ``folder``.
    """
    path = table_of(data, folder)
    rows = list(_rows(path, data))
    if not rows:
        raise DataError(f"{path} lists no image: it has a line of column names at most. {LAYOUT}")
    values = {row.split for row in rows if row.split}
    names = {name: split for split, name in names_of_splits(values, data.splits).items()}
    if names and (unknown := sorted(values - {*names})):
        raise DataError(
            f"{path}: {unknown[0]!r} is no split. Say what it is: data.splits={{train: NAME, val: "
            "NAME, test: NAME}"
        )
    splits: dict[str, LabelledFiles] = {}
    places, found = dict[str, int](), _Finder(folder)
    for row in rows:
        if names and not row.split:
            raise DataError(f"{path}, line {row.line}: no split. Fill it in, or remove the column.")
        file = found.path(row.image, f"{path}, line {row.line}")
        if file in places:
            raise DataError(
                f"{path}, line {row.line}: {row.image} stands in line {places[file]} too. Remove "
                "one of the lines."
            )
        places[file] = row.line
        split = names.get(row.split, "train")
        if not row.label and split != "test":
            raise DataError(f"{path}, line {row.line}: {row.image} has no label. Fill it in.")
        part = splits.setdefault(split, LabelledFiles())
        part.files.append(file)
        part.ids.append(row.image)
        if row.label:
            part.labels.append(row.label)
    warn_of_links(folder, places)
    return {name: _whole(path, splits[name]) for name in ("train", "val", "test") if name in splits}


def table_of(data: Data, folder: str) -> str:
    """Return the path of the table: ``data.file``, from here or in the folder of the images."""
    if data.file is None:
        raise DataError(f"data={data.name} has no table. Set data.file=FILE. {LAYOUT}")
    named = os.path.expanduser(data.file)
    for path in (named, os.path.join(folder, named)):
        if os.path.isfile(path):
            return path
    raise DataError(f"no file {named}. {LAYOUT}")


def _whole(path: str, part: LabelledFiles) -> LabelledFiles:
    if 0 < len(part.labels) < len(part.files):
        raise DataError(
            f"{path}: some images of test have a label and some none. Fill in all or none."
        )
    return part


def _rows(path: str, data: Data) -> Iterator[_Row]:
    try:
        with open(path, encoding=_ENCODING, newline="") as file:
            head = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=head.count)
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            columns = _columns(path, [name or "" for name in reader.fieldnames or ()], data.columns)
            for row in reader:
                line = reader.line_num
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}, line {line}: another number of values than there are columns. "
                        "Quote values that hold the delimiter."
                    )
                values = {role: (row[name] or "").strip() for role, name in columns.items()}
                if not values["image"]:
                    raise DataError(
                        f"{path}, line {line}: no image. Fill it in, or remove the line."
                    )
                yield _Row(line, values["image"], values.get("label", ""), values.get("split", ""))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error
    except csv.Error as error:
        raise DataError(
            f"{path} is no CSV ({error}). Save it as comma-separated values."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


def _columns(path: str, names: list[str], configured: Mapping[str, object]) -> dict[str, str]:
    """Return role -> name of its column."""
    columns = {}
    for role in ("image", "label", "split"):
        candidates = columns_for(role, names, configured, path)
        if candidates:
            columns[role] = candidates[0]
        elif role != "split":
            raise DataError(
                f"{path} has no column {role}. Name it: data.columns.{role}=NAME. Columns: "
                f"{', '.join(names)}"
            )
    return columns


def columns_for(
    role: str, names: Sequence[str], configured: Mapping[str, object], path: str
) -> list[str]:
    """Return the columns of a table that may hold images, labels or splits: the configured one, or
    those of the usual names, the surest first.

    Raises:
        DataError: The configured column is not there.
    """
    wanted = configured.get(role)
    if wanted is None:
        plain = {re.sub(r"[\W_]", "", name.casefold()): name for name in reversed(names)}
        return [plain[name] for name in _USUAL[role] if name in plain]
    if str(wanted) in names:
        return [str(wanted)]
    raise DataError(
        f"data.columns.{role}={wanted}: {path} has no such column. "
        f"{did_you_mean(str(wanted), names, 'Columns')}"
    )


class _Finder:
    """Finds the file that a row of a table means."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._by_stem: dict[str, list[str]] | None = None

    def path(self, image: str, where: str) -> str:
        """Return the path of an image, which may be named without its suffix.

        Raises:
            DataError: It is not there, or not in the folder: a table may be somebody else's, and
                could name any file of this machine.
        """
        path = os.path.normpath(os.path.join(self._folder, image.replace("\\", "/")))
        if not path.startswith(f"{self._folder}/"):
            raise DataError(
                f"{where}: {image} lies outside of {self._folder}. Name images relative to it, or "
                "set data.dir to the folder that holds them all."
            )
        if not os.path.isfile(path):
            path = self._without_suffix(path, image, where)
        return path

    def _without_suffix(self, path: str, image: str, where: str) -> str:
        if self._by_stem is None:
            self._by_stem = {}
            for file in walk(self._folder):
                self._by_stem.setdefault(os.path.splitext(file)[0], []).append(file)
        there = self._by_stem.get(path, [])
        if len(there) > 1:
            raise DataError(f"{where}: {image} could be {' or '.join(there)}. Write its suffix.")
        if not there:
            raise DataError(
                f"{where}: no image {image} in {self._folder}, with or without one of "
                f"{', '.join(SUFFIXES)}."
            )
        return there[0]


def folder_of_table(data: Data) -> str | None:
    """Return the folder of the images where none is configured: that of the table."""
    return None if data.file is None else str(Path(data.file).expanduser().resolve().parent)
