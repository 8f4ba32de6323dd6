"""Find image files in a folder, and read their bytes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from flowersweep.data.images import SUFFIXES
from flowersweep.errors import DataError
from flowersweep.util.text import quantity

_log = logging.getLogger(__name__)
_PASSED_OVER = "__MACOSX"  # copies of names that macOS puts into archives
_LISTED = 12  # names in an error message


def read_file(path: str | Path) -> bytes:
    """Return the bytes of an image file. Raises DataError, without the name, if there are none."""
    if not os.path.isfile(path) and os.path.exists(path):  # to open a pipe would wait for ever
        raise DataError("is no file that holds an image")
    if os.path.islink(path) and not os.path.exists(path):
        raise DataError(_to_nothing(os.fspath(path)))
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    if not content:
        raise DataError("holds no bytes")
    return content


def is_image_name(path: str) -> bool:
    """Say whether a file is an image by its name, and neither hidden nor of ``__MACOSX``."""
    return path.lower().endswith(SUFFIXES) and not is_hidden(path.rpartition("/")[2])


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is passed over for its name."""
    return name.startswith(".") or name == _PASSED_OVER


def walk(folder: str, others: list[str] | None = None) -> Iterator[str]:
    """Yield the image files under ``folder``, at any depth, sorted by name.

    Files that are no images by their name are appended to ``others``.

    Raises:
        DataError: A folder cannot be read, or a link that is no image by its name leads to nothing.
    """
    for path in files_under(folder):
        if is_image_name(path):
            yield path
        else:
            require_target(path)
            if others is not None:
                others.append(path)


def files_under(folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield all files under ``folder``, at any depth, sorted by name, but for hidden ones.

    Links are followed wherever they lead; one to a folder that holds it is passed over.

    Raises:
        DataError: A folder cannot be read.
    """
    above = (*above, os.path.realpath(folder))
    for entry in entries(folder):
        if not is_folder(entry):
            yield entry.path
        elif not leads_back(entry.path, above):
            yield from files_under(entry.path, above)


def leads_back(path: str, above: Sequence[str]) -> bool:
    """Say whether a path is a link to one of the real folders ``above``, or to one that holds it;
    if so, warn that it is passed over.
    """
    if not os.path.islink(path):
        return False
    target = os.path.realpath(path)
    if not any(_is_within(folder, target) for folder in above):
        return False
    warn_once("%s is a link to a folder that holds it: passed over", path)
    return True


def entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what a folder holds, sorted by name, without what is hidden."""
    try:
        with os.scandir(folder) as inside:
            return sorted(
                (entry for entry in inside if not is_hidden(entry.name)),
                key=lambda entry: entry.name,
            )
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read ({error.strerror}). chmod u+rx {folder}"
        ) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a folder or a link to one; a link to itself is none."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def require_target(path: str) -> None:
    """Raise DataError for a link to nothing."""
    if os.path.islink(path) and not os.path.exists(path):
        raise DataError(f"{path} {_to_nothing(path)}. Restore that, or remove the link.")


def warn_of_links(folder: str, files: Iterable[str]) -> None:
    """Warn of images that links bring in from outside of the folder: whoever packed it may have
    meant any image of this machine.
    """
    root, places = os.path.realpath(folder), dict[str, str]()
    outside = []
    for file in files:
        inside, _, name = file.rpartition("/")
        place = places.setdefault(inside, os.path.realpath(inside))
        real = os.path.realpath(file) if os.path.islink(file) else f"{place}/{name}"
        if not _is_within(real, root):
            outside.append((file, real))
    if outside:
        message = "%s: links lead out of it to %s, first %s to %s"
        warn_once(message, folder, quantity(len(outside), "image"), *outside[0])


@lru_cache(maxsize=256)
def warn_once(message: str, *facts: str | int) -> None:
    """Log a warning once a process: a command opens its images several times."""
    _log.warning(message, *facts)


def describe_contents(folder: str) -> str:
    """Say what a folder holds, in short."""
    names = [f"{entry.name}/" if is_folder(entry) else entry.name for entry in entries(folder)]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{folder} holds: {', '.join(names[:_LISTED]) or '(nothing)'}{more}."


def _is_within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _to_nothing(link: str) -> str:
    return f"is a link to {os.readlink(link)}, which is not there"
