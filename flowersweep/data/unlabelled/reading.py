"""Decode images ahead of the network, some at a time; a broken one ends nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from flowersweep.data.diagnose import plain_fault
from flowersweep.data.files import read_file
from flowersweep.data.images import Images, Size, traced_decoder
from flowersweep.data.unlabelled.sources import Entry
from flowersweep.errors import DataError
from flowersweep.util.cores import usable_cores


class Picture(NamedTuple):
    """An image and its pixels, uint8 (H, W, 3); without pixels, what is wrong with it."""

    entry: Entry
    pixels: Images | None
    error: str = ""


def read_pictures(
    entries: Iterable[Entry], size: Size, resize: str, *, ahead: int
) -> Iterator[Picture]:
    """Yield the images in their order, resized as training does.

    At most ``ahead`` of them are decoded before their turn.
    """
    left = iter(entries)
    read = partial(_read, decode=traced_decoder(size, resize))
    with ThreadPoolExecutor(len(usable_cores())) as pool:
        try:
            waiting = deque(pool.submit(read, entry) for entry in islice(left, ahead))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(read, entry) for entry in islice(left, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def _read(entry: Entry, decode: Callable[[Any], Any]) -> Picture:
    content = entry.content
    try:
        if isinstance(content, DataError):
            raise content
        data = read_file(content) if isinstance(content, Path) else content
        return Picture(entry, decode(tf.constant(data)).numpy())
    except (tf.errors.OpError, DataError) as error:
        return Picture(entry, None, plain_fault(error))
