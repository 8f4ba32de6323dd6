"""Class names, from a file with one name per line in index order or from a shipped list."""

from __future__ import annotations

from importlib.resources import files

import tensorflow as tf

from flowersweep.errors import DataError, did_you_mean


def read_classes(wanted: str | None, folder: str) -> tuple[str, ...] | None:
    """Return the class names, or None if nothing names them.

    Args:
        wanted: A path, or the name of a shipped list (``flowers104``). None looks for
            ``classes.txt`` in ``folder``, then in its parent.
        folder: Folder of the records.

    Raises:
        DataError: ``wanted`` is neither a file nor a shipped list, or a line of the file is empty.
    """
    if wanted is None:
        candidates = (
            f"{folder}/classes.txt",
            f"{folder.rstrip('/').rpartition('/')[0]}/classes.txt",
        )
        path_found = next((path for path in candidates if tf.io.gfile.exists(path)), None)
        return None if path_found is None else _names(_read(path_found), path_found)
    shipped = {
        path.name.removesuffix(".txt"): path
        for path in files(__package__).iterdir()
        if path.name.endswith(".txt")
    }
    if wanted in shipped:
        return _names(shipped[wanted].read_text(encoding="utf-8"), wanted)
    if not tf.io.gfile.exists(wanted) or tf.io.gfile.isdir(wanted):
        raise DataError(
            f"data.classes={wanted} is neither a file nor a shipped list. "
            f"{did_you_mean(wanted, shipped, 'Shipped lists')}"
            " Give a file with one class name a line, in index order."
        )
    return _names(_read(wanted), wanted)


def _read(path: str) -> str:
    with tf.io.gfile.GFile(path) as file:
        return str(file.read())


def _names(text: str, origin: str) -> tuple[str, ...]:
    names = tuple(line.strip() for line in text.strip().splitlines())
    if "" in names:  # an empty line would shift all later classes
        raise DataError(
            f"{origin}, line {names.index('') + 1}: empty. One class name a line, in index order: "
            "remove or fill it."
        )
    return names
