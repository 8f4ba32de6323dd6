"""Read and decode every image file once before training; report errors by file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from flowersweep.data.diagnose import plain_fault
from flowersweep.data.files import read_file
from flowersweep.data.images import decode_facts
from flowersweep.data.readers import stamp_of
from flowersweep.errors import DataError
from flowersweep.util.arrays import cache_arrays, cached_arrays
from flowersweep.util.text import quantity

_log = logging.getLogger(__name__)
_VERSION = 2  # increase it when something else is checked or stored
_NAMED = 5  # files listed in one message
_THREADS = 8
LEFT_OUT = "left out, "  # what the remark about a file begins with that cannot be read


@dataclass(frozen=True)
class LabelledFiles:
    """The image files of one split, sorted, with their labels and ids."""

    files: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)  # names of classes; empty: unlabelled
    ids: list[str] = field(default_factory=list)


class FileFacts(NamedTuple):
    """What a look into a file says of its image."""

    height: int  # pixels, upright; 0 of a file that cannot be read
    width: int
    note: int  # see `flowersweep.data.images.Note`
    digest: str  # of the file's bytes
    fault: str  # empty: none


def inspect_files(files: Sequence[str], cache: Path) -> list[FileFacts]:
    """Return the facts of every file; ``cache`` keeps them until a file changes."""
    with ThreadPoolExecutor(_THREADS) as pool:
        stamps = list(pool.map(_stamp, files))
        key = hashlib.sha256(json.dumps([_VERSION, stamps]).encode()).hexdigest()[:24]
        path = cache / "verified" / f"{key}.npz"
        if (stored := cached_arrays(path, FileFacts._fields)) is not None:
            columns = (stored[name].tolist() for name in FileFacts._fields)
            return [FileFacts(*facts) for facts in zip(*columns, strict=True)]
        _log.info("verifying %s, once", quantity(len(files), "image file"))
        facts = list(pool.map(_facts, files))
    cache_arrays(
        path,
        {
            name: np.array(column)
            for name, column in zip(FileFacts._fields, zip(*facts, strict=True), strict=True)
        },
    )
    return facts


def without_unreadable(
    splits: Mapping[str, LabelledFiles], facts: Mapping[str, FileFacts], *, skip: bool
) -> tuple[dict[str, LabelledFiles], list[str]]:
    """Return the splits without the files that cannot be read, and what was left out.

    Raises:
        DataError: There are such files, and they are not to be skipped.
    """
    faults = [
        f"{file}: {facts[file].fault}"
        for part in splits.values()
        for file in part.files
        if facts[file].fault
    ]
    if not faults:
        return dict(splits), []
    more = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
    if not skip:
        advice = (
            "Copy these files again or remove them, or set data.skip_unreadable=true to train "
            "without them."
        )
        raise DataError("\n".join([*faults[:_NAMED], *more, advice]))
    _log.warning("left out: %s\n%s", quantity(len(faults), "image file"), "\n".join(faults))
    return {
        name: chosen(part, [not facts[file].fault for file in part.files])
        for name, part in splits.items()
    }, [f"{LEFT_OUT}{fault}" for fault in faults]


def chosen(part: LabelledFiles, mask: Iterable[bool]) -> LabelledFiles:
    """Return some of the files of a split."""
    rows = [row for row, wanted in enumerate(mask) if wanted]
    return LabelledFiles(
        *(
            [column[row] for row in rows] if column else []
            for column in (part.files, part.labels, part.ids)
        )
    )


def digest_of(splits: Mapping[str, LabelledFiles], facts: Mapping[str, FileFacts]) -> str:
    """Return 16 hex digits over the split, class, name and bytes of every image."""
    total = hashlib.sha256()
    for name, part in splits.items():
        for file, label, id in zip(
            part.files, part.labels or [""] * len(part.files), part.ids, strict=True
        ):
            total.update(json.dumps([name, label, id, facts[file].digest]).encode())
    return total.hexdigest()[:16]


def _stamp(file: str) -> tuple[object, ...]:
    try:
        return stamp_of(file)
    except OSError as error:
        return file, str(error)


def _facts(file: str) -> FileFacts:
    try:
        content = read_file(file)
        height, width, note = decode_facts(content)
    except (tf.errors.OpError, DataError) as error:
        return FileFacts(0, 0, 0, "", plain_fault(error))
    return FileFacts(height, width, note, hashlib.sha256(content).hexdigest(), "")
