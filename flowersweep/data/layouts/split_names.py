"""What folders, files and rows call train, val and test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from flowersweep.errors import DataError, did_you_mean

USUAL = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def names_of_splits(there: Iterable[str], configured: Mapping[str, Any]) -> dict[str, str]:
    """Return split -> its name in a data set, of those names that are there.

    Args:
        there: Names of folders, or values of a column.
        configured: ``data.splits``: split -> its name, or None for one of the usual names.

    Raises:
        DataError: A configured split or name does not exist, or two names mean one split.
    """
    names = sorted({*there})
    require_splits(configured)
    found: dict[str, str] = {}
    for split, usual in USUAL.items():
        wanted = configured.get(split)
        if wanted is not None and str(wanted) not in names:
            raise DataError(
                f"data.splits.{split}={wanted}: there is none of that name. "
                f"{did_you_mean(str(wanted), names, 'There are')}"
            )
        if wanted is None and any(configured.get(other) for other in USUAL):
            usual = tuple(name for name in usual if name not in configured.values())
        meant = [str(wanted)] if wanted is not None else [n for n in names if n.casefold() in usual]
        if len(meant) > 1:
            raise DataError(
                f"{' and '.join(meant)} could both be {split}. Say which: "
                f"data.splits={{{split}: {meant[0]}}}"
            )
        if meant:
            found[split] = meant[0]
    return found


def require_splits(configured: Mapping[str, Any]) -> None:
    """Raise DataError if ``data.splits`` names a split that there is not."""
    for split in configured:
        if split not in USUAL:
            raise DataError(
                f"data.splits.{split}: there is no such split. "
                f"{did_you_mean(str(split), USUAL, 'Splits')}"
            )


def split_of_folder(name: str, configured: Mapping[str, Any]) -> str | None:
    """Return the split that a folder's name is; None if it is none."""
    for split, usual in USUAL.items():
        wanted = configured.get(split)
        if name == wanted if wanted is not None else name.casefold() in usual:
            return split
    return None


def split_of_file(name: str, configured: Mapping[str, Any]) -> str | None:
    """Return the split in a file's name: train for ``flowers-train.tfrecord-00000-of-00004``.

    None where the name has none, or several.
    """
    words = {*re.split(r"[^a-z]+", name.casefold())}
    meant = [
        split
        for split, usual in USUAL.items()
        if (
            re.search(rf"(?<![^\W_]){re.escape(str(configured[split]))}(?![^\W_])", name)
            if configured.get(split)
            else words & {*usual}
        )
    ]
    return meant[0] if len(meant) == 1 else None
