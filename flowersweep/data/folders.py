"""Find the folder of the records, or fetch it; explain what is wrong if it is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import tensorflow as tf

from flowersweep.config.schema import Data
from flowersweep.config.targets import arguments, resolve
from flowersweep.errors import DataError

_LAYOUT = (
    "It must hold train/ and val/ (test/ if you like), each with files "
    "{shard}-{H}x{W}-{count}.tfrec."
)
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
    folder = folder if "://" in folder else str(Path(folder).expanduser().resolve())
    if not _is_folder(folder):
        raise DataError(
            f"no folder {folder}. {_nearest(folder)} Set data.dir to the folder of the records. "
            f"{_LAYOUT}"
        )
    return folder.rstrip("/")


def find_files(folder: str) -> dict[str, tuple[str, ...]]:
    """Return the sorted ``*.tfrec`` files of train, val and, if present, test.

    Raises:
        DataError: train/ or val/ is missing or has no such file.
    """
    files_of_split = {}
    for split in ("train", "val", "test"):
        inside = f"{folder}/{split}"
        exists = _is_folder(inside)
        # no glob: a folder's own name may have brackets
        names = _names(inside) if exists else []
        files = tuple(f"{inside}/{name}" for name in names if fnmatch(name, "[!.]*.tfrec"))
        if files:
            files_of_split[split] = files
        elif split != "test":
            problem = f"no *.tfrec in {inside}" if exists else f"{folder} has no {split}/"
            raise DataError(
                f"{problem}. {_contents(inside if exists else folder)}{_better(folder)} {_LAYOUT}"
            )
    return files_of_split


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
        f"{folder}/{name}" for name in _names(folder)[:100] if _is_folder(f"{folder}/{name}/train")
    ]
    return f" Did you mean data.dir={' or data.dir='.join(inside)}?" if inside else ""
