"""Cache of decoded images for later epochs: in memory, or on disk if allowed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowersweep.data.images import Images, Size
from flowersweep.errors import DataError, StudyError
from flowersweep.util.arrays import map_array, write_mapped
from flowersweep.util.text import bytes_text, quantity

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageCacheLimits:
    """How many bytes of decoded images a process may cache, and where."""

    memory: int = 0
    disk: int = 0
    path: Path | None = None  # file on disk; the image size is appended to the name


NOTHING = ImageCacheLimits()
MEMORY_SHARE = 0.25  # of the memory that is free: several workers may share a machine


def memory_limit(asked: int | str) -> int:
    """Return the bytes of memory for decoded images; auto is a share of what is free, without those
    that are cached already.
    """
    if isinstance(asked, int):
        return asked
    import psutil

    cached = sum(cache.images.nbytes for cache in _in_memory.values())
    return int(MEMORY_SHARE * (psutil.virtual_memory().available + cached))


@dataclass(frozen=True)
class ImageCache:
    """The decoded images of one split in one size; not all may be there yet."""

    images: Images  # (n, H, W, 3), file order
    there: npt.NDArray[np.bool_]  # (n,): which images are decoded

    def put(self, rows: npt.NDArray[np.int64], images: Images) -> None:
        self.images[rows] = images
        self.there[rows] = True


# One for the process, shared by all data sets.
_in_memory: dict[tuple[Hashable, Size], ImageCache] = {}


def open_cache(
    key: Hashable,
    size: Size,
    count: int,
    budget: ImageCacheLimits,
    decoded: Callable[[], Iterator[Images]],
) -> ImageCache | None:
    """Return the cache for the images of some files in one size.

    Args:
        key: What the images come from: the versions of files, which images of them, how resized.
        size: Height and width of the images.
        count: Number of images in the files.
        budget: Limits of the cache.
        decoded: Yields all images in file order, to write a cache file at once.

    Returns:
        None if neither budget has room for all images.

    Raises:
        DataError: The disk is full.
    """
    if budget.memory and (key, size) in _in_memory:
        return _in_memory[key, size]
    shape = count, *size, 3
    needed = int(np.prod(shape))
    memory_left = budget.memory - sum(cache.images.nbytes for cache in _in_memory.values())
    images = quantity(count, "decoded image")
    description = f"{images} of {size[0]}x{size[1]}, {bytes_text(needed)}"
    if needed <= memory_left:
        _say(logging.INFO, f"{description}: kept in memory")
        # The system gives memory to an empty array only as it is filled.
        empty = np.empty(shape, np.uint8)
        _in_memory[key, size] = ImageCache(empty, np.zeros(count, np.bool_))
        return _in_memory[key, size]
    free = budget.disk - _on_disk(budget, size)
    if budget.path is not None and needed <= free:
        _say(logging.INFO, f"{description}: kept in {_file(budget.path, size)}")
        mapped = _mapped(_file(budget.path, size), shape, decoded)
        return ImageCache(mapped, np.ones(count, np.bool_))
    room = (
        f"data.cache_bytes has {bytes_text(max(memory_left, 0))} left, "
        f"data.disk_cache_bytes {bytes_text(max(free, 0))}"
    )
    level = logging.WARNING if budget.memory else logging.INFO
    _say(level, f"{description}: decoded anew every time, for {room}")
    return None


def _file(path: Path, size: Size) -> Path:
    return path.with_name(f"{path.name}-{size[0]}x{size[1]}.npy")


def _on_disk(budget: ImageCacheLimits, size: Size) -> int:
    """Return how many bytes all other cache files take."""
    if budget.path is None:
        return 0
    own = _file(budget.path, size)
    return sum(file.stat().st_size for file in own.parent.glob("*.npy") if file != own)


def _mapped(path: Path, shape: tuple[int, ...], decoded: Callable[[], Iterator[Images]]) -> Images:
    """Map the cache file into memory; write it first if it is missing or damaged."""
    # asarray: indexing then returns plain arrays, not memory maps.
    if path.exists():
        try:
            return np.asarray(map_array(path))
        except StudyError as error:
            _log.warning("its images are decoded again: %s", error)
    try:
        write_mapped(path, decoded(), shape=shape, dtype=np.uint8)
        return np.asarray(map_array(path))
    except StudyError as error:
        raise DataError(f"{error}, or set data.disk_cache_bytes=0") from error


@lru_cache(maxsize=64)
def _say(level: int, line: str) -> None:
    """Log a line, once."""
    _log.log(level, line)
