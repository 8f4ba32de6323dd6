"""Which ``data=`` option fits a folder: what an error suggests."""

from __future__ import annotations

import os
from collections.abc import Iterator

from flowersweep.data.files import is_hidden
from flowersweep.data.images import SUFFIXES

_DEEP = 3  # folders
_MOST = 2000  # names that are looked at
_OPTIONS = {  # suffix -> option
    ".tfrec": "tfrecords",
    ".tfrecord": "tfrecords",
    ".tfrecords": "tfrecords",
    ".parquet": "huggingface",
    ".csv": "csv",
}
_LIKELY = ("tfrecords", "huggingface", "folder", "csv")  # the surest first


def fitting_option(folder: str, wrong: str) -> str:
    """Return a sentence that names another folder or ``data=`` option, or nothing.

    Args:
        folder: A local folder that is there.
        wrong: The format that does not fit it.
    """
    found = _examples(folder)
    found.pop(wrong, None)
    if "csv" in found and wrong != "folder" and "folder" in found:
        del found["csv"]
    for option in _LIKELY:
        if option not in found:
            continue
        if option == "csv":
            return f" Try data=csv data.file={folder}/{found['csv']} data.dir={folder}."
        return f" It holds {found[option]}: try data={option} data.dir={folder}."
    if "images" in found:
        return (
            " Its images lie in no class: put each into a folder that is named after its class, or "
            "list them in a table: data=csv data.file=labels.csv."
        )
    return ""


def likely_format(folder: str) -> str | None:
    """Return the ``data=`` option that fits a folder best; None if none does."""
    found = _examples(folder)
    return next((option for option in _LIKELY if option in found), None)


def _examples(folder: str) -> dict[str, str]:
    """Return option -> a file of a folder that it reads; ``images`` for those in no class."""
    examples: dict[str, str] = {}
    for name in _names(folder):
        for suffix, option in _OPTIONS.items():
            if suffix in name.casefold():
                examples.setdefault(option, name)
        if name.casefold().endswith(SUFFIXES):
            examples.setdefault("folder" if "/" in name else "images", name)
    return examples


def _names(folder: str) -> Iterator[str]:
    """Yield the names of some files, relative to the folder; those at the top first."""
    left, level = _MOST, [folder]
    for _ in range(_DEEP):
        below: list[str] = []
        for path in level:
            try:
                with os.scandir(path) as inside:
                    for entry in inside:
                        if is_hidden(entry.name):
                            continue
                        left -= 1
                        if left < 0:
                            return
                        if entry.is_dir(follow_symlinks=False):
                            below.append(entry.path)
                        else:
                            yield entry.path.removeprefix(f"{folder}/")
            except OSError:
                continue
        level = below
