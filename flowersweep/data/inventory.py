"""Cache of the verification: the next start reads a few kilobytes instead of every image."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowersweep.data.records import checksums_digest, fingerprint
from flowersweep.data.verify import Records, digest, read_records, warn_of_duplicates
from flowersweep.errors import DataError
from flowersweep.util.arrays import cache_arrays, cached_arrays

_log = logging.getLogger(__name__)
_VERSION = 2  # increase it when verification checks or stores something else
_COLUMNS = ("labels", "ids", "counts", "sizes", "notes")


@dataclass(frozen=True)
class Inventory:
    """The records of every split, and the digest over all files."""

    splits: dict[str, Records]
    digest: str


def take_inventory(files: Mapping[str, tuple[str, ...]], cache: Path) -> Inventory:
    """Verify every record, or load the result from ``cache`` if no file changed.

    A change is one of a file's name, size, modification time or content.

    Raises:
        DataError: See :func:`flowersweep.data.verify.read_records`; or a split has no record.
    """
    cached = cache / "verified" / f"{_key(files)}.npz"
    inventory = _recall(cached, list(files))
    if inventory is None:
        inventory = _verify(files)
        _keep(inventory, cached)
    for name, records in inventory.splits.items():
        warn_of_duplicates(name, records.ids)
    return inventory


def _verify(files: Mapping[str, tuple[str, ...]]) -> Inventory:
    _log.info("verifying every record of %d files, once", sum(map(len, files.values())))
    splits = {name: read_records(paths, labelled=name != "test") for name, paths in files.items()}
    for name, records in splits.items():
        if not len(records.ids):
            raise DataError(
                f"{name}: {len(files[name])} files, first {files[name][0]}, hold no record. Copy "
                "or download them again."
            )
    return Inventory(splits, digest([path for paths in files.values() for path in paths]))


def _key(files: Mapping[str, tuple[str, ...]]) -> str:
    with ThreadPoolExecutor(16) as pool:  # a stat of a gs:// file is a request
        stamps = {name: list(pool.map(_stamp, paths)) for name, paths in files.items()}
    return hashlib.sha256(json.dumps([_VERSION, stamps]).encode()).hexdigest()[:24]


def _stamp(path: str) -> tuple[object, ...]:
    return *fingerprint(path), checksums_digest(path)


def _recall(path: Path, names: list[str]) -> Inventory | None:
    arrays = [f"{name}.{column}" for name in names for column in _COLUMNS]
    if (stored := cached_arrays(path, ["digest", *arrays])) is None:
        return None
    splits = {name: Records(*(stored[f"{name}.{column}"] for column in _COLUMNS)) for name in names}
    return Inventory(splits, str(stored["digest"]))


def _keep(inventory: Inventory, path: Path) -> None:
    arrays = {
        f"{name}.{column}": getattr(records, column)
        for name, records in inventory.splits.items()
        for column in _COLUMNS
    }
    cache_arrays(path, {"digest": np.str_(inventory.digest), **arrays})
