"""Find the images that one word names: a file, a folder, a glob, a table of paths, TFRecords or
Parquet files.
"""

from __future__ import annotations

import csv
import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from flowersweep.data.files import (
    describe_contents,
    files_under,
    is_hidden,
    is_image_name,
)
from flowersweep.data.images import SUFFIXES
from flowersweep.data.layouts.image_table import columns_for
from flowersweep.data.layouts.parquet import columns_of
from flowersweep.data.unlabelled.records import count_records, read_records
from flowersweep.errors import DataError
from flowersweep.util.text import quantity

TABLES = (".csv", ".tsv")
# also of TensorFlow Datasets, or gzip
RECORDS = re.compile(r"\.tfrec(ord)?s?(?=[-.]|$)|\.parquet$", re.IGNORECASE)
_LISTED = 5  # names in an error message


class Entry(NamedTuple):
    """One image: what its row is called, its id in a submission, and where its bytes are."""

    name: str
    id: str
    content: bytes | Path | DataError  # or what is wrong with its record


@dataclass(frozen=True)
class ImageSource:
    """The images that a word names, in the order of their rows."""

    entries: Sequence[Entry] = ()  # files
    records: Sequence[Path] = ()  # or TFRecords and Parquet files
    columns: Mapping[str, Any] = field(default_factory=dict)  # image, id -> the feature

    @property
    def total(self) -> int | None:
        """The number of images; None where only reading tells."""
        return count_records(self.records) if self.records else len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        yield from self.entries
        for file in self.records:
            yield from (
                Entry(name, name, content) for name, content in read_records(file, self.columns)
            )

    def require_distinct_ids(self) -> None:
        """Raise DataError if two files would have the same id in a submission."""
        counts = Counter(entry.id for entry in self.entries)
        if repeated := [id for id, count in counts.items() if count > 1]:
            raise DataError(
                f"{quantity(len(repeated), 'id')} would name several images, first "
                f"{repeated[0]!r}: an id is the path without its ending. Rename the files, or use "
                "format=csv"
            )


def find_images(
    word: str, columns: Mapping[str, Any] | None = None, folder: str | None = None
) -> ImageSource:
    """Return the images that a word names; a folder is searched at any depth.

    Files are in the order of their sorted paths, rows of a table in the order of the table. Hidden
    files and ``__MACOSX`` are passed over.

    Args:
        columns: image, id -> the column of a table or feature of a record that holds it; others
            are found by their usual names.
        folder: Where the paths of a table count from; None: its own folder, or the current one.

    Raises:
        DataError: There is nothing of that name, or no image in it.
    """
    if not word.strip() or "://" in word:
        raise DataError(
            f"images={word} must name files of this machine: a file, a folder, a glob, a table of "
            "paths or TFRecords"
        )
    try:
        return _find(word, Path(word).expanduser(), columns or {}, folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: no such user's folder
        raise DataError(f"images={word} cannot be read: {error}") from error


def _find(word: str, path: Path, columns: Mapping[str, Any], folder: str | None) -> ImageSource:
    if path.is_file() and path.suffix.lower() in TABLES:
        places = [path.parent, Path()] if folder is None else [Path(folder).expanduser()]
        return ImageSource(tuple(_table(path, columns, places)))
    if folder is not None and path.exists():
        raise DataError(
            f"images={word} names the images, and so does data.dir={folder}: leave one of them out"
        )
    if path.is_dir():
        return _of_files(_files_in(path), path, word, columns)
    if path.exists():
        if RECORDS.search(path.name):
            return _of_records([path], columns)
        return ImageSource([_entry(path, path.parent)])  # whatever its name
    if not glob.has_magic(word):
        raise DataError(f"images={word}: there is no such file or folder. {_near(path)}")
    there = next(parent for parent in path.parents if parent.exists())  # brackets and all
    pattern = str(Path(glob.escape(str(there)), path.relative_to(there)))
    matches = [
        match
        for match in map(Path, glob.glob(pattern, recursive=True))
        if not any(is_hidden(part) for part in match.parts if part not in path.parts)
    ]
    if not matches:
        raise DataError(f"images={word}: no file matches. {_near(path)}")
    files = [
        file for match in matches for file in (_files_in(match) if match.is_dir() else [match])
    ]
    return _of_files(sorted({*files}, key=str), Path(os.path.commonpath(matches)), word, columns)


def _of_files(
    files: Sequence[Path], root: Path, word: str, columns: Mapping[str, Any]
) -> ImageSource:
    """Return the images among files; TFRecords and Parquet only where there is no image file."""
    images = [file for file in files if is_image_name(str(file))]
    records = [file for file in files if RECORDS.search(file.name)]
    if images:
        base = root if root.is_dir() else root.parent
        return ImageSource(tuple(_entry(file, base) for file in images))
    if records:
        return _of_records(records, columns)
    others = ", ".join(file.name for file in files[:_LISTED])
    more = f" and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    raise DataError(
        f"images={word}: no image in it. It holds {others or 'no file'}{more}. Images end with "
        f"{', '.join(SUFFIXES)}, TFRecords with .tfrec or .tfrecord, Parquet with .parquet"
    )


def _of_records(files: Sequence[Path], columns: Mapping[str, Any]) -> ImageSource:
    for file in files:
        if file.suffix == ".parquet":
            columns_of(str(file), columns)  # a missing column is an error before any work
    return ImageSource(records=files, columns=columns)


def _files_in(folder: Path) -> list[Path]:
    """Return the files of a folder at any depth, sorted, but for hidden ones."""
    return [Path(file) for file in sorted(files_under(str(folder)))]


def _entry(file: Path, root: Path) -> Entry:
    return Entry(str(file), _without_ending(file.relative_to(root).as_posix()), file)


def _without_ending(name: str) -> str:
    return name.rpartition(".")[0] if is_image_name(name) else name


def _near(path: Path) -> str:
    """Say what the nearest folder that exists holds."""
    return describe_contents(
        str(next(parent for parent in path.absolute().parents if parent.is_dir()))
    )


def _table(path: Path, configured: Mapping[str, Any], places: Sequence[Path]) -> Iterator[Entry]:
    """Yield the images that the rows of a table name, by paths that count from ``places``."""
    heading, rows = _rows(path)
    columns = columns_for("image", heading, configured, str(path))
    if not columns and len(heading) == 1 and _resolved(heading[0], places).exists():
        columns, rows = heading, [heading, *rows]  # paths alone, without a heading
    if not columns:
        raise DataError(
            f"{path} has no column image. Name it: data.columns.image=NAME. Columns: "
            f"{', '.join(heading)}"
        )
    column, files = _files_of(rows, {name: heading.index(name) for name in columns}, places)
    names = _values(rows, column)
    if not any(file.is_file() for file in files):
        first = f", first {names[0]!r}" if names else ""
        raise DataError(
            f"{path}: none of its images ({len(names)}) is there{first}. Paths count from "
            f"{' or '.join(map(str, places))}; data.dir=PATH names another folder"
        )
    others = columns_for("id", heading, configured, str(path))
    ids = [_without_ending(name) for name in names]
    if others and heading.index(others[0]) != column:
        ids = _values(rows, heading.index(others[0]))
    yield from map(Entry, names, ids, files)


def _files_of(
    rows: Sequence[Sequence[str]], columns: Mapping[str, int], places: Sequence[Path]
) -> tuple[int, list[Path]]:
    """Return the first of the columns that names a file that is there, and its files; without one,
    the first column.
    """
    candidates = [
        (column, [_resolved(name, places) for name in _values(rows, column)])
        for column in columns.values()
    ]
    return next(
        (choice for choice in candidates if any(file.is_file() for file in choice[1])),
        candidates[0],
    )


def _values(rows: Sequence[Sequence[str]], column: int) -> list[str]:
    return [row[column].strip() if column < len(row) else "" for row in rows]


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the heading of a table and its rows; commas, semicolons or tabs stand between."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            rows = [row for row in csv.reader(file, delimiter=max(",;\t", key=first.count)) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}. Save it as UTF-8") from error
    if not rows:
        raise DataError(f"{path} is empty. It needs a heading and a row for each image")
    return [name.strip() for name in rows[0]], rows[1:]


def _resolved(name: str, folders: Sequence[Path]) -> Path:
    """Return the file that a row names; an id may leave out the ending."""
    places = [Path(base, Path(name).expanduser()) for base in folders]
    endings = [place.with_name(place.name + end) for place in places if name for end in SUFFIXES]
    return next((file for file in (*places, *endings) if file.is_file()), places[0])
