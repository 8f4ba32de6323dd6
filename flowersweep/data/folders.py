"""Find the folder of the records, or fetch it; explain what is wrong if it is missing."""

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
from flowersweep.data.records import declared_count
from flowersweep.errors import DataError

_LAYOUT = (
    "It must hold train/ and val/ (test/ if you like), each with files "
    "{shard}-{H}x{W}-{count}.tfrec."
)
_ODD = re.compile(r"[^\w/.:-]", re.ASCII)  # characters that one may be tempted to quote
_UNQUOTED = ", as it stands, without quotes inside the word"
_log = logging.getLogger(__name__)
_LISTED = 12  # names in an error message


def find_folder(data: Data, cache: Path, trusted: Iterable[str] = ()) -> str:
    """Return the folder of the records: ``data.dir``, else the result of calling ``data.fetch``.

    Raises:
        DataError: Neither is set, or the folder does not exist.
        ConfigError: ``data.fetch`` names no callable of a trusted module.
    """
    if data.dir is None and data.fetch is None:
        raise DataError(f"data={data.name} has no folder. Set data.dir=PATH. {_LAYOUT}")
    folder = data.dir if data.dir is not None else _fetch(data.fetch, cache, trusted)
    require_reachable(folder)
    folder = folder if "://" in folder else str(Path(folder).expanduser().resolve())
    if not _is_folder(folder):
        raise DataError(
            f"no folder {folder}. {_nearest(folder)} Set data.dir to the folder of the records"
            f"{_UNQUOTED if _ODD.search(str(data.dir)) else ''}. {_LAYOUT}"
        )
    return folder.rstrip("/")


def find_files(folder: str) -> dict[str, tuple[str, ...]]:
    """Return the sorted ``*.tfrec`` files of train, val and, if present, test.

    Raises:
        DataError: train/ or val/ is missing or has no such file, or a file is empty, a folder or a
            link to nothing.
    """
    files_of_split = {}
    for split in ("train", "val", "test"):
        inside = f"{folder}/{split}"
        require_reachable(inside)
        exists = _is_folder(inside)
        files = _records_in(inside) if exists else ()
        if files:
            files_of_split[split] = files
        elif split != "test":
            problem = f"no *.tfrec in {inside}" if exists else f"{folder} has no {split}/"
            raise DataError(
                f"{problem}. {_contents(inside if exists else folder)}{_better(folder)} {_LAYOUT}"
            )
    return files_of_split


def _records_in(folder: str) -> tuple[str, ...]:
    """Return the sorted ``*.tfrec`` files of a folder.

    Hidden files, such as the ``._NAME`` that macOS puts beside each, are passed over.
    """
    names = [name for name in _names(folder) if name.endswith(".tfrec")]
    hidden = [name for name in names if name.startswith(".")]
    if hidden:
        _log.warning("%s: passed over %d hidden files, first %s", folder, len(hidden), hidden[0])
    files = tuple(f"{folder}/{name}" for name in names if not name.startswith("."))
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


def _fetch(fetch: Any, cache: Path, trusted: Iterable[str]) -> str:
    if not isinstance(fetch, Mapping) or "_target_" not in fetch:
        raise DataError(
            f"data.fetch is {fetch!r}; it must be a mapping with _target_: NAME, or set "
            "data.dir=PATH."
        )
    return str(resolve(fetch, "data.fetch", trusted)(cache=cache, **arguments(fetch)))


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
    return f" Did you mean data.dir={' or data.dir='.join(inside)}?" if inside else ""
