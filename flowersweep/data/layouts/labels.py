"""From names of classes to their indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flowersweep.errors import DataError, did_you_mean

Labels = npt.NDArray[np.int64]


def class_names(labels: Mapping[str, npt.NDArray[np.str_]]) -> tuple[str, ...]:
    """Return the classes of all splits, sorted by name; numbers by value."""
    names = {str(label) for part in labels.values() for label in np.unique(part)}
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def indexed(
    labels: Mapping[str, npt.NDArray[np.str_]], classes: Sequence[str], *, named: str | None
) -> dict[str, Labels]:
    """Return the index of each label in ``classes``.

    Where ``classes`` come from ``data.classes`` and all labels are numbers, these are the indexes.

    Raises:
        DataError: A label is not one of the classes of ``data.classes`` (``named``).
    """
    places = {name: index for index, name in enumerate(classes)}
    if named is not None and not places.keys() & {
        str(label) for part in labels.values() for label in part
    }:
        numbers = {str(label) for part in labels.values() for label in part}
        if all(number.isdecimal() for number in numbers):
            return {name: part.astype(np.int64) for name, part in labels.items()}
    for name, part in labels.items():
        for label in np.unique(part):
            if str(label) not in places:
                raise DataError(
                    f"{name}: the class {str(label)!r} is not one of data.classes={named}. "
                    f"{did_you_mean(str(label), classes, 'Classes')}"
                )
    return {
        name: np.array([places[str(label)] for label in part], np.int64)
        for name, part in labels.items()
    }
