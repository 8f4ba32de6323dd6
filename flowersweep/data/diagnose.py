"""Find the broken records of a file: a slow pass that runs only after the fast one failed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from flowersweep.data.images import decode
from flowersweep.errors import DataError


def problems(files: Sequence[str], *, labelled: bool) -> Iterator[str]:
    """Read ``files`` record by record; yield a message per bad record (counted from 0)."""
    for path in files:
        number = -1
        try:
            for number, raw in enumerate(tf.data.TFRecordDataset(path, buffer_size=8 << 20)):
                if problem := _problem(raw, labelled):
                    yield f"{path}, record {number}: {problem}"
        except tf.errors.OpError as error:
            yield (
                f"{path}, record {number + 1}: the file is truncated or corrupt from here on "
                f"({_plain(error)})"
            )


def _problem(raw: Any, labelled: bool) -> str | None:
    example = tf.train.Example()
    try:
        example.ParseFromString(raw.numpy())
    # Any exception: TensorFlow does not export protobuf's DecodeError.
    except Exception as error:
        return f"not a tf.train.Example ({error})"
    feature = example.features.feature
    kinds = {"id": "bytes_list", "image": "bytes_list"} | (
        {"class": "int64_list"} if labelled else {}
    )
    for name, kind in kinds.items():
        if len(getattr(feature[name], kind).value) != 1:
            present = sorted(key for key in feature if feature[key].WhichOneof("kind"))
            return (
                f"feature {name!r} is missing or not one value of {kind}; the record has: "
                f"{', '.join(present)}"
            )
    try:
        decode(feature["image"].bytes_list.value[0])
    except (tf.errors.OpError, DataError) as error:
        return f"the image cannot be decoded ({_plain(error)})"
    return None


def _plain(error: Any) -> str:
    """Return the first line of a message, without graph node names of TensorFlow."""
    message = str(getattr(error, "message", error)) or type(error).__name__
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", message.splitlines()[0])[:160]
