"""Read and decode every record once before training; report errors by file and record."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from flowersweep.data.diagnose import problems
from flowersweep.data.images import decode_and_note
from flowersweep.data.layouts.record_schema import RecordSchema
from flowersweep.data.records import declared_count
from flowersweep.errors import DataError
from flowersweep.util.text import quantity

_log = logging.getLogger(__name__)
MOST_CLASSES = 100_000
_NAMED = 5  # problems listed in one message
_MEND = (
    "Records are counted from 0. Copy or download a broken file again, or write it anew without "
    "that record."
)


@dataclass(frozen=True)
class Records:
    """The contents of one split, by record in file order."""

    labels: npt.NDArray[Any]  # (n,): indexes of classes, or first their names; -1: unlabelled
    ids: npt.NDArray[np.str_]  # (n,)
    counts: npt.NDArray[np.int64]  # (files,): records in each file
    sizes: npt.NDArray[np.int32]  # (n, 2): height and width, upright
    notes: npt.NDArray[np.uint8]  # (n,): see `flowersweep.data.images.Note`


def read_records(
    files: Sequence[str], schema: RecordSchema | None = None, compression: str = ""
) -> Records:
    """Parse and decode every record of ``files``.

    Raises:
        DataError: A file is truncated or corrupt, a feature is missing, an image cannot be
            decoded, or a file's name has another number of records. The message lists up to five
            problems.
    """
    schema = schema or RecordSchema()
    try:
        columns = [
            np.concatenate(column)
            for column in zip(*_columns(files, schema, compression), strict=True)
        ]
    except tf.errors.OpError as error:
        # The fast pass does not know which record is bad; the slow pass finds it.
        messages = list(islice(problems(files, schema, compression), _NAMED)) or [
            f"{', '.join(files)}: {error.message}"
        ]
        raise DataError("\n".join([*messages, _MEND])) from error
    if not columns:
        columns = [
            np.empty(0, np.int64),
            np.empty(0, object),
            np.empty(0, np.int64),
            np.empty((0, 2), np.int32),
            np.empty(0, np.uint8),
        ]
    file, identities, labels, sizes, notes = columns
    counts = np.bincount(file, minlength=len(files))
    _check_counts(files, counts)
    if labels.dtype == object:
        labels = _texts(labels)
    ids = _texts(_numbered(files, counts) if schema.id is None else identities)
    return Records(labels, ids, counts, sizes, notes)


def check_labels(files: Sequence[str], records: Records, classes: int | None) -> None:
    """Raise DataError for labels outside 0 to ``classes`` - 1.

    None, for classes without names: labels of `MOST_CLASSES` or more are numbers of something else.
    """
    limit = MOST_CLASSES if classes is None else classes
    invalid = (records.labels < 0) | (records.labels >= limit)
    if invalid.any():
        allowed = f"0 to {limit - 1} (the class file names {limit})"
        if classes is None:
            allowed = f"the index of a class, from 0 on and below {limit}"
        messages = [
            f"{locate(files, records, i)}: label {records.labels[i]}, must be {allowed}"
            for i in np.flatnonzero(invalid)[:_NAMED]
        ]
        messages.append(
            f"{quantity(int(invalid.sum()), 'such label')}. Records are counted from 0. Mend them, "
            "or set data.classes."
        )
        raise DataError("\n".join(messages))


def warn_of_duplicates(name: str, ids: npt.NDArray[np.str_]) -> None:
    """Warn of ids that occur more than once: perhaps duplicate images, but nothing breaks."""
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        _log.warning(
            "%s: %s more than once, first %r",
            name,
            quantity(int((counts > 1).sum()), "id"),
            str(unique[counts > 1][0]),
        )


def locate(files: Sequence[str], records: Records, index: int) -> str:
    """Return the file and the record number in it of the ``index``-th record of a split."""
    ends = np.cumsum(records.counts)
    file = int(np.searchsorted(ends, index, side="right"))
    return f"{files[file]}, record {index - (ends[file] - records.counts[file])}"


def _texts(values: Iterable[bytes]) -> npt.NDArray[np.str_]:
    return np.array([value.decode("utf-8", "replace") for value in values], dtype=np.str_)


def _numbered(files: Sequence[str], counts: Iterable[int]) -> list[bytes]:
    """Name images after their file and record."""
    return [
        f"{file.rpartition('/')[2]}:{record}".encode()
        for file, count in zip(files, counts, strict=True)
        for record in range(count)
    ]


def digest(files: Sequence[str]) -> str:
    """Return 16 hex digits of a sha256 over names (``train/00-….tfrec``) and contents."""
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(_sha256, files))
    names = ["/".join(file.split("/")[-2:]) for file in files]
    lines = [f"{name} {content}" for name, content in zip(names, contents, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _sha256(path: str) -> str:
    total = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while block := file.read(8 << 20):
            total.update(block)
    return total.hexdigest()


def _columns(
    files: Sequence[str], schema: RecordSchema, compression: str
) -> Iterator[tuple[Any, ...]]:
    """Yield blocks of columns in file order: file number, id, label, size, note."""

    def records_of(number: Any, path: Any) -> Any:
        records = tf.data.TFRecordDataset(path, compression, buffer_size=8 << 20)
        return records.map(lambda raw: (number, raw))

    def facts(number: Any, raw: Any) -> Any:
        record = tf.io.parse_single_example(raw, schema.features())
        image, note = decode_and_note(record[schema.image])
        identity = tf.constant(b"") if schema.id is None else record[schema.id]
        return number, identity, schema.label_of(record), tf.shape(image)[:2], note

    files_by_number = tf.data.Dataset.from_tensor_slices(
        (np.arange(len(files), dtype=np.int64), list(files))
    )
    rows = files_by_number.flat_map(records_of).map(
        facts, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    yield from rows.batch(1024).as_numpy_iterator()


def _check_counts(files: Sequence[str], counts: npt.NDArray[np.int64]) -> None:
    messages = [
        f"{file}: its name says {promised} records, it holds {count or 'none'}; it was cut short, "
        "or renamed"
        for file, count in zip(files, counts, strict=True)
        if (promised := declared_count(file)) is not None and promised != count
    ]
    unnumbered = [file for file in files if declared_count(file) is None]
    if unnumbered:
        warning = (
            "no number of records in the name of %s, first %s: one that was cut between two "
            "records would not be noticed"
        )
        _log.warning(warning, quantity(len(unnumbered), "file"), unnumbered[0])
    if messages:
        advice = "Copy or download it again, or give it a name with the right count."
        raise DataError("\n".join([*messages[:_NAMED], advice]))
