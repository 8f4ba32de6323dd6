"""Find the broken records of a file: a slow pass that runs only after the fast one failed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from flowersweep.data.images import decode
from flowersweep.data.layouts.record_schema import RecordSchema
from flowersweep.errors import DataError
from flowersweep.util.text import quantity


def problems(files: Sequence[str], schema: RecordSchema, compression: str) -> Iterator[str]:
    """Read ``files`` record by record; yield a message per bad record (counted from 0)."""
    for path in files:
        number = -1
        records = tf.data.TFRecordDataset(path, compression, buffer_size=8 << 20)
        try:
            for number, raw in enumerate(records):
                if problem := _problem(raw, schema):
                    yield f"{path}, record {number}: {problem}"
        except tf.errors.OpError as error:
            yield (
                f"{path}, record {number + 1}: the file is truncated or corrupt from here on "
                f"({plain_fault(error)})"
            )


def _fault(feature: Any, name: str) -> str:
    """Say what a record has in place of one feature."""
    if kind := feature[name].WhichOneof("kind"):
        values = len(getattr(feature[name], kind).value)
        return f"holds {kind.removesuffix('_list')} ({quantity(values, 'value')})"
    present = sorted(key for key in feature if feature[key].WhichOneof("kind"))
    return f"is missing (the record has: {', '.join(present)})"


def _problem(raw: Any, schema: RecordSchema) -> str | None:
    example = tf.train.Example()
    try:
        example.ParseFromString(raw.numpy())
    # Any exception: TensorFlow does not export protobuf's DecodeError.
    except Exception as error:
        return f"not a tf.train.Example ({error})"
    feature = example.features.feature
    for name, (kind, count) in schema.kinds().items():
        if len(getattr(feature[name], kind).value) != count:
            values = "one value" if count == 1 else f"{count} values"
            return f"feature {name!r} {_fault(feature, name)}, and must be {values} of {kind}"
    try:
        decode(feature[schema.image].bytes_list.value[0])
    except (tf.errors.OpError, DataError) as error:
        return f"the image cannot be decoded ({plain_fault(error)})"
    return None


def plain_fault(error: Any) -> str:
    """Return the first line of a message, without graph node names of TensorFlow."""
    message = str(getattr(error, "message", error)) or type(error).__name__
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", message.splitlines()[0])[:160]
