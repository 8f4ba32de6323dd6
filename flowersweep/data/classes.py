"""Class names, from a file with one name per line in index order or from a shipped list."""

from __future__ import annotations

import re
from importlib.resources import files

import tensorflow as tf

from flowersweep.data.places import require_reachable
from flowersweep.errors import DataError, did_you_mean


def read_classes(wanted: str | None, folder: str) -> tuple[str, ...] | None:
    """Return the class names, or None if nothing names them.

    Args:
        wanted: A path, or the name of a shipped list (``flowers104``). None looks for
            ``classes.txt`` or ``label.labels.txt`` in ``folder``, then ``classes.txt`` in its
            parent.
        folder: Folder of the records.

    Raises:
        DataError: ``wanted`` is neither a file nor a shipped list, or a line of the file is empty,
            not printable or there twice.
    """
    if wanted is None:
        candidates = (
            f"{folder}/classes.txt",
            f"{folder}/label.labels.txt",  # TensorFlow Datasets
            f"{folder.rstrip('/').rpartition('/')[0]}/classes.txt",
        )
        path_found = next(filter(_is_there, candidates), None)
        return None if path_found is None else _names(_read(path_found), path_found)
    shipped = {
        path.name.removesuffix(".txt"): path
        for path in files(__package__).iterdir()
        if path.name.endswith(".txt")
    }
    if wanted in shipped:
        return _names(shipped[wanted].read_text(encoding="utf-8"), wanted)
    if not _is_there(wanted) or tf.io.gfile.isdir(wanted):
        raise DataError(
            f"data.classes={wanted} is neither a file nor a shipped list. "
            f"{did_you_mean(wanted, shipped, 'Shipped lists')}"
            " Give a file with one class name a line, in index order."
        )
    return _names(_read(wanted), wanted)


def _is_there(path: str) -> bool:
    require_reachable(path)
    return bool(tf.io.gfile.exists(path))


def _read(path: str) -> str:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = bytes(file.read())
    except tf.errors.OpError as error:
        raise DataError(f"{path} cannot be read: {error.message}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}). Save it as UTF-8.") from error


def _names(text: str, origin: str) -> tuple[str, ...]:
    # not splitlines, which also ends a line at a form feed and the like; blank lines may end a file
    lines = re.split("\r\n|\r|\n", text.rstrip())
    names = tuple(line.strip() for line in lines)
    for number, (line, name) in enumerate(zip(lines, names, strict=True), 1):
        problem = None
        if not name:  # an empty line would shift all later classes
            problem = "empty"
        elif not line.replace("\t", "").isprintable():
            problem = f"{line!r} has a character that cannot be printed"
        elif names.index(name) != number - 1:
            problem = f"{name!r} is also the name in line {names.index(name) + 1}"
        if problem:
            raise DataError(
                f"{origin}, line {number}: {problem}. One class name a line, in index order: "
                "remove or mend the line."
            )
    return names
