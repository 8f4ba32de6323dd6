"""Locks between processes, which the kernel releases when their holder dies."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO, Any

from flowersweep.errors import StudyError


def take_lock(file: IO[Any], *, wait: bool = False) -> bool:
    """Lock an open file until it is closed; return False if another process holds its lock.

    Args:
        wait: Wait for the other process.

    Raises:
        StudyError: The file system has no locks; the file is closed.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        file.close()
        raise StudyError(
            f"the file system of {Path(file.name).parent} cannot lock files ({error.strerror}): "
            "two commands could write there at the same time. Choose a folder on a disk of this "
            "machine: dir=PATH"
        ) from error
    return True
