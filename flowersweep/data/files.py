"""Find image files in a folder, and decode one as the training does."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from flowersweep.data.diagnose import plain_fault
from flowersweep.data.images import Images, Size, decode_and_resize
from flowersweep.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif")
_PASSED_OVER = "__MACOSX"  # copies of names that macOS puts into archives
_LISTED = 12  # names in an error message


def image_files(path: str | Path) -> list[Path]:
    """Return the image files that a path names, sorted by folder and name.

    Args:
        path: A file, which is taken whatever its name; a folder, of which all images at any depth
            are taken; or a pattern such as ``photos/*.jpg``.

    Files that are no images by their name are passed over, and so are hidden ones.

    Raises:
        DataError: There is no such path, or no image in it, or a link leads out of the folder.
    """
    named = os.path.expanduser(str(path))
    if os.path.isdir(named):
        files = [Path(file) for file in walk(named)]
    elif os.path.isfile(named):
        return [Path(named)]
    else:
        matches = sorted(glob.glob(named, recursive=True))
        files = [
            Path(file)
            for match in matches
            for file in (walk(match) if os.path.isdir(match) else [match])
            if is_image_name(file)
        ]
    if not files:
        raise DataError(f"{path}: {_nothing(named)} Images are files of {', '.join(SUFFIXES)}.")
    return files


def decode_file(path: str | Path, size: Size, resize: str = "stretch") -> Images:
    """Return the image of a file, uint8 (*size, 3), as a network is trained with it.

    Raises:
        DataError: The file cannot be read or decoded; the message names it.
    """
    try:
        image: Images = decode_and_resize(read_file(path), size, resize).numpy()
    except (tf.errors.OpError, DataError) as error:
        raise DataError(f"{path}: {plain_fault(error)}") from error
    return image


def read_file(path: str | Path) -> bytes:
    """Return the bytes of an image file. Raises DataError, without the name, if there are none."""
    if not os.path.isfile(path) and os.path.exists(path):  # to open a pipe would wait for ever
        raise DataError("is no file that holds an image")
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


def walk(folder: str, root: str | None = None, others: list[str] | None = None) -> Iterator[str]:
    """Yield the image files under ``folder``, at any depth, sorted by name.

    Links are followed within ``root`` (default: the folder itself). Files that are no images by
    their name are appended to ``others``.

    Raises:
        DataError: A link leads out of ``root``, or to nothing, or a folder cannot be read.
    """
    yield from _walk(folder, os.path.realpath(root or folder), others, ())


def _walk(
    folder: str, root: str, others: list[str] | None, above: tuple[str, ...]
) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that holds it
        return
    for entry in entries(folder):
        require_inside(entry.path, root, is_link=entry.is_symlink())
        if entry.is_dir():
            yield from _walk(entry.path, root, others, (*above, real))
        elif is_image_name(entry.path):
            yield entry.path
        elif others is not None:
            others.append(entry.path)


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


def require_inside(path: str, root: str, *, is_link: bool = True) -> None:
    """Raise DataError for a link that leads out of the real path ``root``, or to nothing: images
    may come from somebody else, and a link could name any file of this machine.
    """
    if not is_link:
        return
    real = os.path.realpath(path)
    if not os.path.exists(real):
        raise DataError(
            f"{path} is a link to {os.readlink(path)}, which is not there. Restore that, or remove "
            "the link."
        )
    if os.path.commonpath([real, root]) != root:
        raise DataError(
            f"{path} is a link out of {root}, to {real}. Copy the images into the folder, or link "
            "them hard (cp -rl, ln)."
        )


def describe_contents(folder: str) -> str:
    """Say what a folder holds, in short."""
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries(folder)]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{folder} holds: {', '.join(names[:_LISTED]) or '(nothing)'}{more}."


def _nothing(named: str) -> str:
    if os.path.isdir(named):
        return f"no image in this folder. {describe_contents(named)}"
    if glob.has_magic(named):
        return "no image matches this pattern."
    if os.path.islink(named):
        return f"a link to {os.readlink(named)}, which is not there."
    return "no such file or folder."
