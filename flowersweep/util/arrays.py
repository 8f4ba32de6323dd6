"""Arrays on disk with checksums, so that a damaged file is noticed.

A damaged cache (`cached_arrays`, `map_array`) is computed again. A damaged result (`read_arrays`)
is refused with its name.
"""

from __future__ import annotations

import io
import logging
import os
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from flowersweep.errors import StudyError
from flowersweep.util.files import atomic_write

log = logging.getLogger(__name__)

# what zipfile and NumPy raise for damaged bytes; RuntimeError: they say that it is encrypted
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, BadZipFile, zlib.error)
CHECKSUM = 4  # bytes at the end of a mapped file: CRC-32 of all before
ENTRIES = -12  # where a zip file without a comment says how many entries it has
BLOCK = 1 << 20


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as .npz, which has a checksum of each. Raises StudyError like `atomic_write`."""
    with atomic_write(path) as file:
        np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]


def cache_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays that can be computed again: log a warning where they cannot be written."""
    try:
        write_arrays(path, arrays)
    except StudyError as error:
        log.warning("it will be computed again: %s", error)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file.

    Raises:
        StudyError: The file is not there, or is not whole.
    """
    try:
        with path.open("rb") as binary, np.load(binary, allow_pickle=False) as file:
            binary.seek(ENTRIES, os.SEEK_END)
            if int.from_bytes(binary.read(2), "little") != len(file.files):
                raise ValueError("its directory is damaged")
            return dict(file)
    except FileNotFoundError as error:
        raise StudyError(f"{path} is not there. Restore it from a copy") from error
    except UNREADABLE as error:
        raise StudyError(f"{path} cannot be read ({error}). Restore it from a copy") from error


def cached_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray] | None:
    """Return arrays of an .npz file; None if it is not there, or, with a warning, damaged."""
    if not path.exists():
        return None
    try:
        arrays = read_arrays(path)
        if missing := sorted(set(names) - set(arrays)):
            raise StudyError(f"{path} has no array {missing[0]}")
        return arrays
    except StudyError as error:
        log.warning("it will be computed again: %s", error)
        return None


def write_mapped(
    path: Path, parts: Iterable[npt.NDArray[Any]], *, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> None:
    """Write an array as .npy, part by part, for `map_array`. Raises StudyError like `atomic_write`.

    Args:
        path: The file.
        parts: Rows of the array, one after the other.
        shape: Shape of the whole array.
        dtype: Type of its numbers.
    """
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    about = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    # not through a mapping: there a full disk would kill the process
    with atomic_write(path) as file:
        file.write(header.getvalue())
        crc = zlib.crc32(header.getvalue())
        for part in parts:
            file.write(content := part.astype(dtype, copy=False).tobytes())
            crc = zlib.crc32(content, crc)
        file.write(crc.to_bytes(CHECKSUM, "little"))


def map_array(path: Path) -> npt.NDArray[Any]:
    """Return an array of `write_mapped`, memory-mapped; a process reads it once to check it.

    Raises:
        StudyError: The file is not there, or is damaged.
    """
    try:
        stat = path.stat()
        _check(path, stat.st_size, (stat.st_mtime_ns, stat.st_ino))
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise StudyError(f"{path} cannot be read ({error})") from error
    return mapped


@lru_cache(maxsize=256)
def _check(path: Path, size: int, stamp: tuple[int, int]) -> None:
    """Raise ValueError unless a file has its checksum at its end."""
    crc, left = 0, size - CHECKSUM
    with path.open("rb") as file:
        while left > 0:
            block = file.read(min(left, BLOCK))
            if not block:
                raise ValueError("it ends early")
            crc, left = zlib.crc32(block, crc), left - len(block)
        if left < 0 or file.read() != crc.to_bytes(CHECKSUM, "little"):
            raise ValueError("its checksum is another")
