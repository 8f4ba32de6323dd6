"""Facts of TFRecords and Parquet files: every image is verified once, and no more while no file
changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from flowersweep.data.readers import stamp_of
from flowersweep.data.records import checksums_digest, fingerprint
from flowersweep.data.verify import Records, digest
from flowersweep.errors import DataError
from flowersweep.util.arrays import cache_arrays, cached_arrays

_log = logging.getLogger(__name__)
_VERSION = 4  # increase it when verification checks or stores something else
_COLUMNS = ("labels", "ids", "counts", "sizes", "notes")


def verified_records(
    files: Mapping[str, tuple[str, ...]],
    read_as: Mapping[str, Any],
    read: Callable[[str], Records],
    cache: Path,
) -> tuple[dict[str, Records], str]:
    """Return the records of each split and a digest of all files, from ``cache`` if none changed.

    Args:
        files: The files of each split.
        read_as: Which features of a split are read.
        read: Reads and verifies a split.
        cache: The folder of what was verified before.

    Raises:
        DataError: A split has no record, or what ``read`` raises.
    """
    cached = cache / "verified" / f"{_key(files, read_as)}.npz"
    if (recalled := _recall(cached, list(files))) is not None:
        return recalled
    _log.info("verifying every record of %d files, once", sum(map(len, files.values())))
    splits = {name: read(name) for name in files}
    for name, records in splits.items():
        if not len(records.ids):
            raise DataError(
                f"{name}: {len(files[name])} files, first {files[name][0]}, hold no record. Copy "
                "or download them again."
            )
    # which feature is the label counts as well
    total = mixed_digest(
        digest([path for paths in files.values() for path in paths]), dict(read_as)
    )
    _keep(splits, total, cached)
    return splits, total


def mixed_digest(digest: str, fact: Any) -> str:
    """Return a digest that changes with another one and with a fact, which is plain data."""
    return hashlib.sha256(json.dumps([digest, fact]).encode()).hexdigest()[:16]


def _key(files: Mapping[str, tuple[str, ...]], read_as: Mapping[str, Any]) -> str:
    with ThreadPoolExecutor(16) as pool:  # a stat of a gs:// file is a request
        stamps = {name: list(pool.map(_stamp, paths)) for name, paths in files.items()}
    return hashlib.sha256(json.dumps([_VERSION, stamps, read_as]).encode()).hexdigest()[:24]


def _stamp(path: str) -> tuple[object, ...]:
    if path.endswith(".parquet"):
        return stamp_of(path)
    return *fingerprint(path), checksums_digest(path)


def _recall(path: Path, names: list[str]) -> tuple[dict[str, Records], str] | None:
    arrays = [f"{name}.{column}" for name in names for column in _COLUMNS]
    if (stored := cached_arrays(path, ["digest", *arrays])) is None:
        return None
    splits = {name: Records(*(stored[f"{name}.{column}"] for column in _COLUMNS)) for name in names}
    return splits, str(stored["digest"])


def _keep(splits: Mapping[str, Records], total: str, path: Path) -> None:
    arrays = {
        f"{name}.{column}": getattr(records, column)
        for name, records in splits.items()
        for column in _COLUMNS
    }
    cache_arrays(path, {"digest": np.str_(total), **arrays})
