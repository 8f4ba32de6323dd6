"""Decode images ahead of the network, some at a time; a broken one ends nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from flowersweep.data.images import Images, Size, decode_and_resize, decode_with_pillow
from flowersweep.data.unlabelled.sources import Entry
from flowersweep.errors import DataError
from flowersweep.util.cores import usable_cores


class Picture(NamedTuple):
    """An image and its pixels, uint8 (H, W, 3); without pixels, what is wrong with it."""

    entry: Entry
    pixels: Images | None
    error: str = ""


def read_pictures(entries: Iterable[Entry], size: Size, *, ahead: int) -> Iterator[Picture]:
    """Yield the images in their order; at most ``ahead`` of them are decoded before their turn."""
    left = iter(entries)
    with ThreadPoolExecutor(len(usable_cores())) as pool:
        try:
            waiting: deque[Future[Picture]] = deque(
                pool.submit(_read, entry, size) for entry in islice(left, ahead)
            )
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(_read, entry, size) for entry in islice(left, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def _read(entry: Entry, size: Size) -> Picture:
    try:
        content = entry.content
        if isinstance(content, DataError):
            raise content
        data = content.read_bytes() if isinstance(content, Path) else content
        return Picture(entry, _decode(data, size))
    except OSError as error:
        return Picture(entry, None, str(error.strerror or error))
    except DataError as error:
        return Picture(entry, None, str(error))


def _decode(data: bytes, size: Size) -> Images:
    """Decode as training does: uint8 (*size, 3). Raises DataError."""
    if not data:
        raise DataError("there are no bytes")
    try:
        pixels: Images = _decoder(size)(tf.constant(data)).numpy()
    except tf.errors.OpError as error:
        decode_with_pillow(data)  # says it better
        reason = str(error.message).splitlines()[0]
        raise DataError(f"cannot be decoded ({reason[:160]})") from error
    return pixels


@lru_cache(maxsize=4)
def _decoder(size: Size) -> Any:
    """Return a decoder that TensorFlow compiles once."""
    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(lambda data: decode_and_resize(data, size), input_signature=signature)
