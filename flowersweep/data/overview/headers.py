"""What the header of every image says: format, mode and size. Nothing is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from flowersweep.data.dataset import Split
from flowersweep.data.images import read_header
from flowersweep.errors import DataError

_CHUNK = 512  # images at a time


@dataclass(frozen=True)
class Headers:
    """The headers of the images of a split, in file order."""

    kinds: npt.NDArray[np.str_]  # (n,): format and mode, ``JPEG RGB``
    sizes: npt.NDArray[np.int32]  # (n, 2): height and width, upright


def read_headers(split: Split, done: Callable[[int], None]) -> Headers:
    """Return the headers of a split; ``done`` is called with the number of images so far."""
    rows = split.in_files(np.arange(len(split)))
    kinds, sizes, count = [np.empty(0, "U1")], [np.empty((0, 2), np.int32)], 0
    for kind, size in split.reader.images(split.files, rows, _look).batch(_CHUNK):
        kinds.append(np.array([name.decode() for name in kind.numpy()]))
        sizes.append(size.numpy())
        count += len(kinds[-1])
        done(count)
    return Headers(np.concatenate(kinds), np.concatenate(sizes))


def _look(data: Any) -> tuple[Any, Any]:
    kind, size = tf.numpy_function(_header, [data], [tf.string, tf.int32], stateful=False)
    return tf.ensure_shape(kind, ()), tf.ensure_shape(size, (2,))


def _header(data: Any) -> tuple[bytes, npt.NDArray[np.int32]]:
    # TensorFlow passes bytes in a graph, and otherwise an array of one object
    content = data if isinstance(data, bytes) else data.item()
    try:
        format, mode, height, width = read_header(content)
    except DataError:  # TensorFlow can decode some images that Pillow cannot
        return b"other", np.zeros(2, np.int32)
    return f"{format} {mode}".encode(), np.array([height, width], np.int32)
