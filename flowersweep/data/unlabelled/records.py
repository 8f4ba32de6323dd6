"""Read images from TFRecords of any layout: features by their usual names, gzip or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from flowersweep.data.diagnose import plain_fault
from flowersweep.data.formats.record_schema import USUAL
from flowersweep.data.records import compression_of, declared_count
from flowersweep.errors import DataError

Record = tuple[str, bytes | DataError]  # its id, else its place; bytes of an image


def count_records(files: Sequence[Path]) -> int | None:
    """Return the number of records that the files' names declare; None if one has no number."""
    counts = [declared_count(str(file)) for file in files]
    return None if None in counts else sum(count or 0 for count in counts)


def read_records(file: Path) -> Iterator[Record]:
    """Yield each record of a file; what is damaged ends the file with one record that says so."""
    number = 0
    try:
        for raw in _raw(file).as_numpy_iterator():
            yield _record(raw, f"{file}#{number}")
            number += 1
    except (OSError, tf.errors.OpError) as error:
        reason = f"the file is truncated or corrupt from here on ({plain_fault(error)})"
        yield f"{file}#{number}", DataError(reason)


def _raw(file: Path) -> Any:
    kind = compression_of(str(file))
    return tf.data.TFRecordDataset(str(file), compression_type=kind, buffer_size=8 << 20)


def _record(raw: bytes, place: str) -> Record:
    example = tf.train.Example()
    try:
        example.ParseFromString(raw)
    except Exception as error:  # TensorFlow does not export protobuf's DecodeError
        return place, DataError(f"not a tf.train.Example ({error})")
    features = example.features.feature
    image, id = (
        next((features[key].bytes_list.value[0] for key in keys if _is_text(features, key)), b"")
        for keys in (USUAL["image"], USUAL["id"])
    )
    names = ", ".join(sorted(features))
    missing = DataError(f"none of {', '.join(USUAL['image'])} is in the record, which has {names}")
    return id.decode("utf-8", "backslashreplace") or place, image or missing


def _is_text(features: Any, key: str) -> bool:
    return key in features and len(features[key].bytes_list.value) > 0
