"""Files that are either whole or not there, also after a power cut."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from flowersweep.errors import StudyError


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Give a file to write that replaces ``path`` once it is whole and on disk.

    Args:
        durable: Wait until it survives a power cut.

    Raises:
        StudyError: The disk is full, or the folder cannot be written.
    """
    name = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.replace(name, path)
        name = None
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror}. Make room and run the same command again") from error
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a whole file. Raises StudyError like `atomic_write`."""
    with atomic_write(path, durable=durable) as file:
        file.write(content)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as .npz. Raises StudyError like `atomic_write`."""
    with atomic_write(path) as file:
        np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]


def move(source: Path, target: Path) -> None:
    """Give a finished file or folder its name, durably."""
    os.replace(source, target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable: a rename alone can be lost with the power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
