"""Count the JPEGs that are decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from flowersweep.data import images


@contextmanager
def counted() -> Iterator[list[int]]:
    """Give a list that grows with every image that is decoded while this lasts."""
    found: list[int] = []
    decode = images.decode_reduced

    def noted(jpeg: bytes) -> bytes:
        found.append(len(jpeg))
        return jpeg

    def counting(jpeg: Any, least: images.Size | None, **known: bool) -> Any:
        counted = tf.ensure_shape(tf.numpy_function(noted, [jpeg], tf.string), [])
        return decode(counted, least, **known)

    images.decode_reduced = counting
    images.traced_decoder.cache_clear()
    try:
        yield found
    finally:
        images.decode_reduced = decode
        images.traced_decoder.cache_clear()
