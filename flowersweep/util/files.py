"""Files that are either whole or not there, also after a power cut."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from flowersweep.errors import StudyError


def open_private(path: Path) -> IO[bytes]:
    """Open an empty file that only this user can read. A link in its place is replaced."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def require_no_links(folder: Path) -> None:
    """Raise StudyError if a folder is a link or has one in it.

    Whoever reads, writes or removes what a link names would reach out of the folder.
    """
    inside = (
        os.path.join(parent, name)
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
    )
    for path in (os.fspath(folder), *inside):
        if os.path.islink(path):
            raise StudyError(
                f"{path} is a link, and may lead out of the study. Put there what it names, or "
                "remove it"
            )


@contextmanager
def atomic_write(path: Path, *, durable: bool = True, private: bool = True) -> Iterator[IO[bytes]]:
    """Give a file to write that replaces ``path`` once it is whole and on disk.

    Args:
        durable: Wait until it survives a power cut.
        private: Let only this user read it; else, whoever may read what the user creates.

    Raises:
        StudyError: The disk is full, or the folder cannot be written.
    """
    name = None
    try:
        with explained(path):
            make_folder(path.parent)
            handle, name = tempfile.mkstemp(
                prefix=f".{path.name}.", suffix=".partial", dir=path.parent
            )
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            if not private:
                os.umask(umask := os.umask(0o077))
                Path(name).chmod(0o666 & ~umask)
            os.replace(name, path)
            name = None
            if durable:
                sync(path.parent)
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise StudyError, with what to do, where a file cannot be written."""
    try:
        yield
    except OSError as error:
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        mend = "Choose another folder" if refused else "Make room and run the same command again"
        raise StudyError(f"cannot write {path}: {error.strerror}. {mend}") from error


def write_bytes(path: Path, content: bytes, *, durable: bool = True, private: bool = True) -> None:
    """Write a whole file. Raises StudyError like `atomic_write`."""
    with atomic_write(path, durable=durable, private=private) as file:
        file.write(content)


def move(source: Path, target: Path) -> None:
    """Move a finished file or folder to its name, and wait until that is on disk."""
    sync_tree(source)
    os.replace(source, target)
    sync(target.parent)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it, that survive a power cut."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=mode, exist_ok=True)
    sync(path.parent)


def sync_tree(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on disk."""
    for inside in [*path.rglob("*"), path]:
        with suppress(FileNotFoundError):  # somebody removed it meanwhile
            sync(inside)


def sync_above(path: Path) -> None:
    """Wait until the names of the folders above are on disk, as far as this user may open them."""
    for folder in path.absolute().parents:
        with suppress(OSError):
            sync(folder)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk: a rename alone can be lost with the
    power.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
