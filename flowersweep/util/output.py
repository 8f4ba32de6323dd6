"""The file that a command writes where the user says: ``output=PATH``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from flowersweep.errors import ConfigError
from flowersweep.util.files import atomic_write, explained

OWN = ("studies", "artifacts", "cache", "mlflow.db")  # of the project's folder
DATABASE = b"SQLite format 3\0"  # how each file of SQLite begins


def require_output(path: Path, dir: Path | None = None) -> Path:
    """Return the path of a file that a command will write, before it does its work.

    Args:
        path: A file, a pipe or a device.
        dir: The project's folder, whose own files are refused.

    Raises:
        ConfigError: It is a folder, no file can be made there, or it is a file of a study or store.
    """
    try:
        if is_stream(path):
            if not os.access(path, os.W_OK):
                raise ConfigError(f"output={path}: cannot be written. Choose another: output=PATH")
            return path
        if path.is_dir() or not path.parent.is_dir():
            raise ConfigError(f"output={path}: must be a file in a folder that exists")
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
        if dir is not None and _is_own(Path(os.path.realpath(path)), Path(os.path.realpath(dir))):
            raise ConfigError(
                f"output={path}: belongs to a study or to MLflow, and would be lost. Choose "
                "another place: output=PATH"
            )
        prefix = f".{path.name}."  # as long as the name that `atomic_write` needs
        tempfile.NamedTemporaryFile(prefix=prefix, suffix=".partial", dir=path.parent).close()
    except OSError as error:
        raise ConfigError(
            f"output={path}: no file can be made there ({error.strerror}). Choose another place: "
            "output=PATH"
        ) from error
    return path


def is_stream(path: Path) -> bool:
    """Return whether a path is a pipe or a device, which is written into and not replaced."""
    special = path.exists() and not path.is_file() and not path.is_dir()
    return special or (path.is_absolute() and path.parts[1:2] == ("dev",) and path.is_file())


def _is_own(path: Path, dir: Path) -> bool:
    if path.is_relative_to(dir):
        first = path.relative_to(dir).parts[0]
        if first in OWN or first.startswith("mlflow.db-"):
            return True
    study = ("journal.jsonl", "lock")  # of another project
    if any(all((folder / name).exists() for name in study) for folder in path.parents):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(DATABASE)) == DATABASE


@contextmanager
def open_output(path: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """Give a file to write: a pipe or device as it is, else one that replaces ``path`` when whole.

    Raises:
        StudyError: It cannot be written.
    """
    if not is_stream(path):
        with atomic_write(path, private=private) as file:
            yield file
        return
    with explained(path), path.open("wb") as stream:
        yield stream
