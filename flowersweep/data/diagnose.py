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
            if number < 0 and _compressed(path):
                yield f"{path} is compressed by GZIP: decompress it (gunzip)"
                continue
            yield (
                f"{path}, record {number + 1}: the file is truncated or corrupt from here on "
                f"({plain_fault(error)})"
            )


def _compressed(path: str) -> bool:
    with tf.io.gfile.GFile(path, "rb") as file:
        return bool(file.read(2) == b"\x1f\x8b")


def _fault(feature: Any, name: str) -> str:
    """Say what a record has in place of one feature."""
    if kind := feature[name].WhichOneof("kind"):
        values = len(getattr(feature[name], kind).value)
        return f"holds {kind.removesuffix('_list')} ({values} value{'s' * (values != 1)})"
    present = sorted(key for key in feature if feature[key].WhichOneof("kind"))
    return f"is missing (the record has: {', '.join(present)})"


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
            return f"feature {name!r} {_fault(feature, name)}, and must be one value of {kind}"
    try:
        decode(feature["image"].bytes_list.value[0])
    except (tf.errors.OpError, DataError) as error:
        return f"the image cannot be decoded ({plain_fault(error)})"
    return None


def plain_fault(error: Any) -> str:
    """Return the first line of a message, without graph node names of TensorFlow."""
    message = str(getattr(error, "message", error)) or type(error).__name__
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", message.splitlines()[0])[:160]
