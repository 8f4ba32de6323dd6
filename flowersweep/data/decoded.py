"""Decoded images that are kept for the next epoch: in memory while the budget lasts, else on disk where that is allowed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowersweep.data.records import FileFingerprint, Images, Size
from flowersweep.errors import DataError, StudyError
from flowersweep.util.files import atomic_write

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageCacheLimits:
    """How many bytes of decoded images a process may keep, and under which name."""

    memory: int = 0
    disk: int = 0
    path: Path | None = None  # of the file on disk, but for the size of the images


NOTHING = ImageCacheLimits()


@dataclass(frozen=True)
class ImageCache:
    """The images of one split in one size, as far as they were decoded."""

    images: Images  # (n, H, W, 3), file order
    there: npt.NDArray[np.bool_]  # (n,): which of them are

    def put(self, rows: npt.NDArray[np.int64], images: Images) -> None:
        self.images[rows] = images
        self.there[rows] = True


_in_memory: dict[
    tuple[tuple[FileFingerprint, ...], Size], ImageCache
] = {}  # of this process, whichever data set asked for them


def open_cache(
    stamps: tuple[FileFingerprint, ...],
    size: Size,
    count: int,
    budget: ImageCacheLimits,
    decoded: Callable[[], Iterator[Images]],
) -> ImageCache | None:
    """Return where the ``count`` images of these files are kept in this size; None where neither budget has room for all of them.

    On disk all of them are written at once, from ``decoded``, which yields them in file order. Raises DataError if the disk is full.
    """
    if budget.memory and (stamps, size) in _in_memory:
        return _in_memory[stamps, size]
    shape = count, *size, 3
    needed, left = (
        int(np.prod(shape)),
        budget.memory - sum(each.images.nbytes for each in _in_memory.values()),
    )
    told = f"{count} decoded images of {size[0]}x{size[1]} take {needed / 2**30:.2f} GiB"
    if needed <= left:
        _say(logging.INFO, f"{told}: kept in memory")
        _in_memory[stamps, size] = ImageCache(
            np.empty(shape, np.uint8), np.zeros(count, np.bool_)
        )  # takes memory as it is filled
        return _in_memory[stamps, size]
    free = budget.disk - _on_disk(budget, size)
    if budget.path is not None and needed <= free:
        _say(logging.INFO, f"{told}: kept in {_file(budget.path, size)}")
        return ImageCache(
            _mapped(_file(budget.path, size), shape, decoded), np.ones(count, np.bool_)
        )
    rest = (
        f"data.cache_bytes has {max(left, 0) / 2**30:.2f} GiB left, data.disk_cache_bytes "
        f"{max(free, 0) / 2**30:.2f}"
    )
    _say(
        logging.WARNING if budget.memory else logging.INFO,
        f"{told}: decoded anew every time, for {rest}",
    )
    return None


def _file(path: Path, size: Size) -> Path:
    return path.with_name(f"{path.name}-{size[0]}x{size[1]}.npy")


def _on_disk(budget: ImageCacheLimits, size: Size) -> int:
    """Return how many bytes the other files take."""
    if budget.path is None:
        return 0
    own = _file(budget.path, size)
    return sum(file.stat().st_size for file in own.parent.glob("*.npy") if file != own)


def _mapped(path: Path, shape: tuple[int, ...], decoded: Callable[[], Iterator[Images]]) -> Images:
    """Map the file into memory; written elsewhere and moved if it is not there."""
    if not path.exists():
        try:
            with atomic_write(
                path
            ) as file:  # not through a mapping, where a full disk would end the process
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "|u1", "fortran_order": False, "shape": shape}
                )
                for images in decoded():
                    file.write(images.tobytes())
        except StudyError as error:
            raise DataError(f"{error}, or set data.disk_cache_bytes=0") from error
    mapped: Images = np.asarray(
        np.load(path, mmap_mode="r")
    )  # what is picked out of it is plain then
    return mapped


@lru_cache(maxsize=64)
def _say(level: int, line: str) -> None:
    """Log a line, once."""
    _log.log(level, line)
