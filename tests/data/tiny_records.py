"""Write small splits in the schema of the competition; imported by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from flowersweep.data.records import encode, write_split

TRAIN, VAL = (0, 1, 2) * 4, (0, 1, 2, 0, 1, 2, 0)


def jpeg(value: int, size: tuple[int, int] = (8, 8), channels: int = 3) -> bytes:
    """Encode an image of a single gray, so that it is told from others after decoding."""
    image = np.full((*size, channels), value, np.uint8)
    encoded: bytes = tf.io.encode_jpeg(image, quality=100).numpy()
    return encoded


def split(
    folder: Path, labels: tuple[int, ...] | None, count: int, *, shards: int = 2, start: int = 0
) -> list[str]:
    """Write ``count`` images, the i-th of gray ``start + 10 i``."""
    named = labels or (None,) * count
    records = [encode(jpeg(start + 10 * i), f"{folder.name}-{i}", named[i]) for i in range(count)]
    return write_split(str(folder), records, (8, 8), shards=shards)
