"""Find the folder of the images, or fetch it, and the record files in it; explain what is wrong if
there are none.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from flowersweep.config.schema import Data
from flowersweep.config.targets import arguments, resolve
from flowersweep.data.files import is_hidden
from flowersweep.data.layouts.image_table import folder_of_table
from flowersweep.data.layouts.split_names import USUAL, names_of_splits, split_of_file
from flowersweep.data.layouts.suggestions import fitting_option
from flowersweep.data.records import declared_count, holds_records
from flowersweep.errors import DataError
from flowersweep.util.text import quantity

_LAYOUT = (
    "data=tfrecords reads train/*.tfrec and val/*.tfrec (test/ if you like), or files that are "
    "named after their split. data=folder reads folders of photographs, data=csv a table of them."
)
_RECORDS = re.compile(r"\.tfrec(ords?)?\b|\.tfrecords?-\d+-of-\d+")
_ODD = re.compile(r"[^\w/.:-]", re.ASCII)  # characters that one may be tempted to quote
_UNQUOTED = ", as it stands, without quotes inside the word"
_log = logging.getLogger(__name__)
_LISTED = 12  # names in an error message


def find_folder(data: Data, cache: Path, trusted: Iterable[str] = ()) -> str:
    """Return the folder of the images: ``data.dir``, a local ``data.path``, else the result of
    calling ``data.fetch``.

    Raises:
        DataError: Neither is set, or the folder does not exist.
        ConfigError: ``data.fetch`` names no callable of a trusted module.
    """
    named = data.dir
    if named is None and data.path is not None and (data.fetch is None or is_local(data)):
        named = data.path
    if named is None and data.format == "csv":
        named = folder_of_table(data)
    if named is None and data.fetch is None:
        raise DataError(f"data={data.name} has no folder. Set data.dir=PATH. {_LAYOUT}")
    folder = named if named is not None else _fetch(data, cache, trusted)
    if "://" in folder and data.format != "tfrecords":
        raise DataError(
            f"data={data.name} reads local folders, and data.dir={folder} is none. Copy the images "
            "here, or store them as TFRecords."
        )
    require_reachable(folder)
    folder = folder if "://" in folder else str(Path(folder).expanduser().resolve())
    if not _is_folder(folder):
        raise DataError(
            f"no folder {folder}. {_nearest(folder)} Set data.dir to the folder of the images"
            f"{_UNQUOTED if _ODD.search(str(data.dir)) else ''}. {_LAYOUT}"
        )
    return folder.rstrip("/")


def is_local(data: Data) -> bool:
    """Say whether ``data.path`` is a folder of this machine."""
    return data.path is not None and Path(data.path).expanduser().is_dir()


def find_files(
    folder: str, configured: Mapping[str, Any] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the sorted record files of train and, if present, val and test.

    They lie in a folder a split, or in one folder and are named after their split. ``configured``
    are the names of the splits (``data.splits``).

    Raises:
        DataError: There is no file of train, or a file is empty, a folder or a link to nothing.
    """
    configured = configured or {}
    names = _names(folder)
    for split in USUAL:
        require_reachable(f"{folder}/{configured.get(split) or split}")
    folders = [name for name in names if _is_folder(f"{folder}/{name}")]
    splits = names_of_splits(folders, configured) if folders else {}
    files_of_split = {split: _records_in(f"{folder}/{name}") for split, name in splits.items()}
    if not files_of_split.get("test", True):
        del files_of_split["test"]
    if not splits:
        files_of_split = _named_after_splits(folder, names, configured)
    empty = next((split for split, files in files_of_split.items() if not files), "train")
    if files_of_split.get(empty):
        return files_of_split
    inside = f"{folder}/{splits[empty]}" if empty in splits else folder
    problem = f"no *.tfrec in {inside}" if empty in splits else f"{folder} has no train/"
    better = _better(folder) or ("" if "://" in folder else fitting_option(folder, "tfrecords"))
    raise DataError(f"{problem}. {_contents(inside)}{better} {_LAYOUT}")


def find_all_files(folder: str) -> dict[str, tuple[str, ...]]:
    """Return the sorted record files of a folder, whatever splits there are.

    What no name says a split of is train.

    Raises:
        DataError: There is none.
    """
    names = _names(folder)
    splits = names_of_splits([name for name in names if _is_folder(f"{folder}/{name}")], {})
    inside = {split: _records_in(f"{folder}/{name}") for split, name in splits.items()}
    files = {split: paths for split, paths in inside.items() if paths}
    if files:
        return files
    every, named = _records_in(folder, names), _named_after_splits(folder, names, {})
    if not every:
        raise DataError(f"no *.tfrec in {folder}. {_contents(folder)}{_better(folder)}")
    return named if sum(map(len, named.values())) == len(every) else {"train": every}


def _named_after_splits(
    folder: str, names: list[str], configured: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Return the record files of one folder by the split in their names."""
    files: dict[str, list[str]] = {}
    for path in _records_in(folder, names):
        if split := split_of_file(path.rpartition("/")[2], configured):
            files.setdefault(split, []).append(path)
    return {split: tuple(files[split]) for split in USUAL if split in files}


def _records_in(folder: str, names: list[str] | None = None) -> tuple[str, ...]:
    """Return the sorted record files of a folder: those named so, else all that hold records.

    Hidden files, such as the ``._NAME`` that macOS puts beside each, are passed over.
    """
    there = _names(folder) if names is None else names
    named = [name for name in there if _RECORDS.search(name)]
    hidden = [name for name in named if is_hidden(name)]
    if hidden:
        count = quantity(len(hidden), "hidden file")
        _log.warning("%s: passed over %s, first %s", folder, count, hidden[0])
    files = tuple(f"{folder}/{name}" for name in named if not is_hidden(name))
    if not named:
        files = tuple(
            path
            for name in there
            if not is_hidden(name) and holds_records(path := f"{folder}/{name}")
        )
    if "://" not in folder:  # there each question would be a request
        for file in files:
            _require_readable(file)
    return files


def _require_readable(file: str) -> None:
    """Raise DataError for a local file that cannot hold the records that its name promises."""
    path = Path(file)
    require_reachable(file)
    if path.is_dir():
        raise DataError(f"{file} is a folder, not a file of records. Move or rename it.")
    if not os.access(file, os.R_OK):
        raise DataError(f"{file} cannot be read: you have no permission. chmod u+r {file}")
    if not path.stat().st_size and declared_count(file) != 0:
        raise DataError(f"{file} holds no bytes. Copy or download it again, or remove it.")


def require_reachable(path: str) -> None:
    """Raise DataError for a link to nothing, or an address that TensorFlow cannot read here."""
    scheme, separator, _ = path.partition("://")
    if not separator:
        if os.path.islink(path) and not os.path.exists(path):
            raise DataError(
                f"{path} is a link to {os.readlink(path)}, which is not there. Restore that, or "
                "remove the link."
            )
    elif scheme not in tf.io.gfile.get_registered_schemes():
        with contextlib.suppress(ImportError, tf.errors.OpError):
            importlib.import_module("tensorflow_io")  # registers more schemes
        if scheme not in tf.io.gfile.get_registered_schemes():
            raise DataError(
                f"addresses of {scheme}:// cannot be read here. pip install tensorflow-io, if it "
                "fits this TensorFlow, or copy the files to a local folder and give its path."
            )


def _fetch(data: Data, cache: Path, trusted: Iterable[str]) -> str:
    fetch = data.fetch
    if not isinstance(fetch, Mapping) or "_target_" not in fetch:
        raise DataError(
            f"data.fetch is {fetch!r}; it must be a mapping with _target_: NAME, or set "
            "data.dir=PATH."
        )
    named = {} if data.path is None else {"name": data.path}
    call = resolve(fetch, "data.fetch", trusted)
    return str(call(cache=cache, **arguments(fetch), **named))


def _is_folder(path: str) -> bool:
    try:
        return bool(tf.io.gfile.isdir(path))
    except tf.errors.OpError as error:  # no network, no permission, no such bucket
        raise DataError(
            f"cannot look into {path}: {error.message} Check the address and your access to it."
        ) from error


def _nearest(folder: str) -> str:
    """Describe the contents of the nearest existing parent folder."""
    above = folder.rstrip("/")
    while "/" in above and (above := above.rpartition("/")[0]):
        if _is_folder(above):
            return _contents(above)
    return "Nothing above it exists either."


def _names(folder: str) -> list[str]:
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))


def _contents(folder: str) -> str:
    names = _names(folder)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{folder} holds: {', '.join(names[:_LISTED]) or '(nothing)'}{more}."


def _better(folder: str) -> str:
    """Suggest subfolders that hold a data set, such as one of several image sizes."""
    inside = [
        f"{folder}/{name}"
        for name in _names(folder)[:100]
        if name != "__MACOSX" and _is_folder(f"{folder}/{name}/train")
    ]
    if not inside and "://" not in folder:  # what TensorFlow Datasets prepared: NAME/VERSION
        prepared = [*Path(folder).glob("*/features.json"), *Path(folder).glob("*/*/features.json")]
        inside = sorted(str(path.parent) for path in prepared)
    return f" Did you mean data.dir={' or data.dir='.join(inside)}?" if inside else ""
