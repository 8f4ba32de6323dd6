"""Which features of a TFRecord hold image, label and id: by their usual names, or as configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from flowersweep.errors import DataError, did_you_mean

USUAL = {
    "image": ("image", "image/encoded", "jpeg", "png", "image_raw", "image_bytes", "img"),
    "label": ("class", "label", "image/class/label", "image/class/text", "labels", "target"),
    "id": ("id", "image/filename", "filename", "file_name", "image_id", "image_name"),
}
_KINDS = {"int64_list": tf.int64, "bytes_list": tf.string, "float_list": tf.float32}


@dataclass(frozen=True)
class RecordSchema:
    """The names of features, and how a label is written."""

    image: str = "image"
    label: str | None = "class"  # None: the records have none
    id: str | None = "id"  # None: an image is named after its file and record
    label_kind: str = "int64_list"
    classes: int = 0  # length of a one-hot label; 0: the label is one value

    def features(self) -> dict[str, Any]:
        """Return what `tf.io.parse_example` reads."""
        features = {self.image: tf.io.FixedLenFeature([], tf.string)}
        if self.id is not None:
            features[self.id] = tf.io.FixedLenFeature([], tf.string)
        if self.label is not None:
            shape = [self.classes] if self.classes else []
            features[self.label] = tf.io.FixedLenFeature(shape, _KINDS[self.label_kind])
        return features

    def kinds(self) -> dict[str, tuple[str, int]]:
        """Return the list and the number of values that each feature must have."""
        kinds = {name: ("bytes_list", 1) for name in (self.id, self.image) if name is not None}
        if self.label is not None:
            kinds[self.label] = (self.label_kind, self.classes or 1)
        return kinds

    def label_of(self, record: Mapping[str, Any]) -> Any:
        """Return the label of a parsed record: a number or a text; -1 where it has none, or where
        a one-hot label has not exactly one 1.
        """
        if self.label is None:
            return tf.constant(-1, tf.int64)
        label = record[self.label]
        if not self.classes:
            return label
        ones = tf.cast(label != 0, tf.int64)
        return tf.where(tf.reduce_sum(ones) == 1, tf.argmax(ones), tf.constant(-1, tf.int64))


def schema_of(path: str, compression: str, columns: Mapping[str, Any]) -> RecordSchema:
    """Return the schema of the first record of a file; the competition's if none can be read.

    Raises:
        DataError: A configured feature is not there.
    """
    try:
        raw = next(iter(tf.data.TFRecordDataset(path, compression_type=compression).take(1)))
    except (StopIteration, tf.errors.OpError):
        return RecordSchema()
    example = tf.train.Example()
    try:
        example.ParseFromString(raw.numpy())
    # Any exception: TensorFlow does not export protobuf's DecodeError.
    except Exception:
        return RecordSchema()
    values = {
        name: (kind, len(getattr(feature, kind).value))
        for name, feature in example.features.feature.items()
        if (kind := feature.WhichOneof("kind"))
    }
    names = {role: _name(role, values, columns, path) for role in USUAL}
    if names["id"] is not None and values[names["id"]] != ("bytes_list", 1):
        names["id"] = None  # a number or a list: not what names an image
    kind, length = values.get(names["label"] or "", ("int64_list", 1))
    return RecordSchema(
        names["image"] or "image",
        names["label"],
        names["id"],
        kind,
        length if length > 1 else 0,
    )


def _name(
    role: str, values: Mapping[str, Any], columns: Mapping[str, Any], path: str
) -> str | None:
    wanted = columns.get(role)
    if wanted is not None:
        if wanted not in values:
            raise DataError(
                f"data.columns.{role}={wanted}: the first record of {path} has no such feature. "
                f"{did_you_mean(str(wanted), values, 'Features')}"
            )
        return str(wanted)
    return next((name for name in USUAL[role] if name in values), None)
