"""Read images from TFRecords of any layout, gzip or not, and from Parquet files: features and
columns by their usual names, or as configured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from flowersweep.data.diagnose import plain_fault
from flowersweep.data.layouts.parquet import columns_of, count_rows, named_images
from flowersweep.data.layouts.record_schema import USUAL
from flowersweep.data.records import compression_of, declared_count
from flowersweep.errors import DataError

Record = tuple[str, bytes | DataError]  # its id, else its place; bytes of an image


def count_records(files: Sequence[Path]) -> int | None:
    """Return the number of images in files; None if a file of records has none in its name."""
    counts = [
        count_rows(str(file)) if _is_parquet(file) else declared_count(str(file)) for file in files
    ]
    return None if None in counts else sum(count or 0 for count in counts)


def read_records(file: Path, columns: Mapping[str, Any]) -> Iterator[Record]:
    """Yield each record of a file; what is damaged ends the file with one record that says so."""
    if _is_parquet(file):
        yield from _read_parquet(file, columns)
        return
    number = 0
    try:
        for raw in _raw(file).as_numpy_iterator():
            yield _record(raw, f"{file}#{number}", columns)
            number += 1
    except (OSError, tf.errors.OpError) as error:
        reason = f"the file is truncated or corrupt from here on ({plain_fault(error)})"
        yield f"{file}#{number}", DataError(reason)


def _is_parquet(file: Path) -> bool:
    return file.suffix == ".parquet"


def _read_parquet(file: Path, columns: Mapping[str, Any]) -> Iterator[Record]:
    known = columns_of(str(file), columns)
    named = {role: name for role, name in known.items() if role != "label"}
    for number, (id, image) in enumerate(named_images(str(file), named)):
        yield id or f"{file}#{number}", image or DataError("the row holds no bytes of an image")


def _raw(file: Path) -> Any:
    kind = compression_of(str(file))
    return tf.data.TFRecordDataset(str(file), compression_type=kind, buffer_size=8 << 20)


def _record(raw: bytes, place: str, columns: Mapping[str, Any]) -> Record:
    example = tf.train.Example()
    try:
        example.ParseFromString(raw)
    except Exception as error:  # TensorFlow does not export protobuf's DecodeError
        return place, DataError(f"not a tf.train.Example ({error})")
    features = example.features.feature
    known = {
        role: [str(columns[role])] if columns.get(role) else USUAL[role] for role in ("image", "id")
    }
    image, id = (
        next((features[key].bytes_list.value[0] for key in keys if _is_text(features, key)), b"")
        for keys in known.values()
    )
    missing = DataError(
        f"none of {', '.join(known['image'])} is in the record, which has "
        f"{', '.join(sorted(features))}. Name it: data.columns.image=NAME"
    )
    return id.decode("utf-8", "backslashreplace") or place, image or missing


def _is_text(features: Any, key: str) -> bool:
    return key in features and len(features[key].bytes_list.value) > 0
