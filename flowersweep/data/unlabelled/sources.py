"""Find the images that one word names: a file, a folder, a glob, a table of paths, or TFRecords."""

from __future__ import annotations

import csv
import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from flowersweep.data.files import SUFFIXES, describe_contents, is_hidden, is_image_name
from flowersweep.data.unlabelled.records import count_records, read_records
from flowersweep.errors import DataError

TABLES = (".csv", ".tsv")
RECORDS = re.compile(r"\.tfrec(ord)?s?(?=[-.]|$)", re.IGNORECASE)  # also of TFDS, or gzip
COLUMNS = (  # that hold paths, by their usual names, the surest first
    *("image", "file", "path", "filename", "filepath", "imagepath", "imagefile", "imagename"),
    *("img", "imgpath", "name", "imageid", "id"),
)
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
    records: Sequence[Path] = ()  # or files of TFRecords

    @property
    def total(self) -> int | None:
        """The number of images; None where only reading tells."""
        return count_records(self.records) if self.records else len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        yield from self.entries
        for file in self.records:
            yield from (Entry(name, name, content) for name, content in read_records(file))

    def require_distinct_ids(self) -> None:
        """Raise DataError if two files would have the same id in a submission."""
        counts = Counter(entry.id for entry in self.entries)
        if repeated := [id for id, count in counts.items() if count > 1]:
            raise DataError(
                f"{len(repeated)} ids name several images, first {repeated[0]!r}: an id is the "
                "path without its ending. Rename the files, or use format=csv"
            )


def find_images(word: str) -> ImageSource:
    """Return the images that a word names; a folder is searched at any depth.

    Files are in the order of their sorted paths, rows of a table in the order of the table. Hidden
    files and ``__MACOSX`` are passed over.

    Raises:
        DataError: There is nothing of that name, or no image in it.
    """
    if not word.strip() or "://" in word:
        raise DataError(
            f"images={word} must name files of this machine: a file, a folder, a glob, a table of "
            "paths or TFRecords"
        )
    try:
        return _find(word, Path(word).expanduser())
    except (OSError, RuntimeError) as error:  # RuntimeError: no such user's folder
        raise DataError(f"images={word} cannot be read: {error}") from error


def _find(word: str, path: Path) -> ImageSource:
    if path.is_dir():
        return _of_files(_files_in(path), path, word)
    if path.exists():
        if path.suffix.lower() in TABLES:
            return ImageSource(tuple(_table(path)))
        if RECORDS.search(path.name):
            return ImageSource(records=[path])
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
    return _of_files(sorted({*files}, key=str), Path(os.path.commonpath(matches)), word)


def _of_files(files: Sequence[Path], root: Path, word: str) -> ImageSource:
    """Return the images among files; TFRecords only where there is no image file."""
    images = [file for file in files if is_image_name(str(file))]
    records = [file for file in files if RECORDS.search(file.name)]
    if images:
        base = root if root.is_dir() else root.parent
        return ImageSource(tuple(_entry(file, base) for file in images))
    if records:
        return ImageSource(records=records)
    others = ", ".join(file.name for file in files[:_LISTED])
    more = f" and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    raise DataError(
        f"images={word}: no image in it. It holds {others or 'no file'}{more}. Images end with "
        f"{', '.join(SUFFIXES)}, TFRecords with .tfrec or .tfrecord"
    )


def _files_in(folder: Path) -> list[Path]:
    """Return the files of a folder at any depth, sorted, but for hidden ones."""
    files = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not is_hidden(name)]
        files += [Path(parent, name) for name in names if not is_hidden(name)]
    return sorted(files, key=str)


def _refuse(error: OSError) -> None:
    raise DataError(f"cannot look into {error.filename}: {error.strerror}") from error


def _entry(file: Path, root: Path) -> Entry:
    return Entry(str(file), _without_ending(file.relative_to(root).as_posix()), file)


def _without_ending(name: str) -> str:
    return name.rpartition(".")[0] if is_image_name(name) else name


def _near(path: Path) -> str:
    """Say what the nearest folder that exists holds."""
    return describe_contents(
        str(next(parent for parent in path.absolute().parents if parent.is_dir()))
    )


def _table(path: Path) -> Iterator[Entry]:
    """Yield the images that the rows of a table name, by paths from its own folder or from here."""
    heading, rows = _rows(path)
    plain = [re.sub(r"[^a-z]", "", name.lower()) for name in heading]
    column = next((plain.index(name) for name in COLUMNS if name in plain), None)
    if column is None and len(heading) == 1 and _resolved(heading[0], path.parent).exists():
        column, rows = 0, [heading, *rows]  # paths alone, without a heading
    if column is None:
        raise DataError(
            f"{path}: no column names images. It has {', '.join(heading)}. Name one of them image"
        )
    names = [row[column].strip() if column < len(row) else "" for row in rows]
    ids = plain.index("id") if "id" in plain and plain.index("id") != column else None
    files = [_resolved(name, path.parent) for name in names]
    if not any(file.is_file() for file in files):
        first = f", first {names[0]!r}" if names else ""
        raise DataError(
            f"{path}: none of its {len(names)} images is there{first}. Paths count from the "
            "table's own folder, or from the one of the command"
        )
    for name, file, row in zip(names, files, rows, strict=True):
        id = row[ids] if ids is not None and ids < len(row) else _without_ending(name)
        yield Entry(name, id, file)


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


def _resolved(name: str, folder: Path) -> Path:
    """Return the file that a row names; an id may leave out the ending."""
    places = [Path(base, Path(name).expanduser()) for base in (folder, Path())]
    endings = [place.with_name(place.name + end) for place in places if name for end in SUFFIXES]
    return next((file for file in (*places, *endings) if file.is_file()), places[0])
