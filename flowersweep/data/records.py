"""Write and read TFRecords. Paths may be ``gs://``.

What is written here has the competition's layout: ``train/``, ``val/`` and optionally ``test/``,
each with files named ``{shard}-{H}x{W}-{count}.tfrec``. A record has the features ``id`` (bytes),
``class`` (int64, absent in test) and ``image`` (bytes of an image file, see
`flowersweep.data.images`). What is read may have other names, see
`flowersweep.data.layouts.record_schema`.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from flowersweep.data.images import Size

READ_AHEAD = 64 << 20  # bytes: larger files are read one after the other
_FILES_AT_ONCE = 4
_WHOLE_FILE = 1 << 20  # records: more than a file of READ_AHEAD bytes can hold
_NAME = re.compile(r"-(\d+)\.tfrec$")


class FileFingerprint(NamedTuple):
    """Identifies one version of a file without reading it."""

    path: str
    size: int  # bytes
    modified: int  # nanoseconds


def fingerprint(path: str) -> FileFingerprint:
    status = tf.io.gfile.stat(path)
    return FileFingerprint(path, int(status.length), int(status.mtime_nsec))


def checksums_digest(path: str) -> str:
    """Return a digest of the checksums that a local file keeps of its records.

    It changes with the content of any record, also where size and time of the file do not. Only
    the 16 bytes around each record are read. Empty for an address such as ``gs://``: a store gives
    each upload its own time.
    """
    if "://" in path:
        return ""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        if end:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                place = 0
                while place + 16 <= end:
                    (length,) = struct.unpack_from("<Q", content, place)
                    total.update(content[place : place + 12])
                    place += 16 + length  # length, its checksum, the record, its checksum
                    total.update(content[place - 4 : place])
    return total.hexdigest()


def declared_count(path: str) -> int | None:
    """Return the number of records in the file's name: 798 for ``03-192x192-798.tfrec``.

    None if the name has no number.
    """
    match = _NAME.search(path)
    return int(match.group(1)) if match else None


def encode(jpeg: bytes, identity: str, label: int | None) -> bytes:
    """Return one serialized record; with label None it has no ``class``, as in test."""
    feature = {"id": _bytes(identity.encode()), "image": _bytes(jpeg)}
    if label is not None:
        feature["class"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return bytes(example.SerializeToString(deterministic=True))


def _bytes(value: bytes) -> Any:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def write_split(folder: str, records: Sequence[bytes], size: Size, *, shards: int = 1) -> list[str]:
    """Write serialized records into ``folder`` as ``shards`` files; return their ordered paths."""
    tf.io.gfile.makedirs(folder)
    paths = []
    for shard, part in enumerate(np.array_split(np.arange(len(records)), shards)):
        paths.append(f"{folder}/{shard:02d}-{size[0]}x{size[1]}-{len(part)}.tfrec")
        with tf.io.TFRecordWriter(paths[-1]) as file:
            for index in part:
                file.write(records[index])
    return paths


def raw_records(files: Sequence[str], compression: str = "") -> Any:
    """Return a tf.data.Dataset of records in file order; read small files in parallel."""

    def records_of(path: Any) -> Any:
        return tf.data.TFRecordDataset(path, compression_type=compression)

    if max(fingerprint(file).size for file in files) > READ_AHEAD:
        return records_of(list(files))
    # One block per file keeps the order of the files while the next ones are read ahead.
    return tf.data.Dataset.from_tensor_slices(list(files)).interleave(
        records_of,
        cycle_length=_FILES_AT_ONCE,
        block_length=_WHOLE_FILE,
        num_parallel_calls=_FILES_AT_ONCE,
        deterministic=True,
    )


def compression_of(path: str) -> str:
    """Return how the records of a file are compressed: ``GZIP``, or not at all."""
    with tf.io.gfile.GFile(path, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return ""
    try:  # the first record may be as long as these two bytes say
        next(iter(tf.data.TFRecordDataset(path).take(1)))
    except tf.errors.OpError:
        return "GZIP"
    return ""


def holds_records(path: str) -> bool:
    """Say whether a file of any name holds records: its first one is whole, with its checksums."""
    if tf.io.gfile.isdir(path) or fingerprint(path).size < 16:
        return False
    try:
        records = tf.data.TFRecordDataset(path, compression_type=compression_of(path)).take(1)
        return any(True for _ in records)
    except tf.errors.OpError:
        return False
