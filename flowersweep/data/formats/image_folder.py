"""Photographs in folders of classes: ``train/CLASS/*``, ``val/CLASS/*``, or ``CLASS/*`` alone."""

from __future__ import annotations

import logging
import os
from functools import lru_cache

from flowersweep.config.schema import Data
from flowersweep.data.files import describe_contents, entries, is_image_name, require_inside, walk
from flowersweep.data.formats.inspection import LabelledFiles
from flowersweep.data.formats.split_names import names_of_splits
from flowersweep.data.formats.suggestions import fitting_option
from flowersweep.errors import DataError

_log = logging.getLogger(__name__)
LAYOUT = (
    "data=folder reads PATH/CLASS/*.jpg, or PATH/train/CLASS/*.jpg with PATH/val/CLASS/*.jpg and "
    "PATH/test/ if you like."
)


def list_folder(data: Data, folder: str) -> dict[str, LabelledFiles]:
    """Return the files of each split of a folder.

    A folder ``train`` that holds folders is a split. Without one all classes are in train, of which
    other splits may be cut. Test may be flat, without classes. Classes and files are sorted.

    Raises:
        DataError: There are no classes, a class has no image, or a link leads out of the folder.
    """
    root = os.path.realpath(folder)
    folders = _folders(folder, root)
    splits = {
        split: name
        for split, name in names_of_splits(folders, data.splits).items()
        if (data.splits.get(split) is not None or split == "test" or _folders(folders[name], root))
    }
    if "train" not in splits:
        if "val" in splits:
            raise DataError(
                f"{folder} has {splits['val']}/ and no train/. {describe_contents(folder)} Name "
                f"it: data.splits={{train: NAME}}. {LAYOUT}"
            )
        classes = {name: path for name, path in folders.items() if name not in splits.values()}
        listed = {"train": _classes(data, folder, root, classes)}
    else:
        _warn_of_others(folder, {*folders} - {*splits.values()})
        listed = {}
    for split, name in splits.items():
        inside = _folders(folders[name], root)
        listed[split] = _classes(
            data, folders[name], root, inside, split=split, flat=split == "test" and not inside
        )
    if not listed["train"].files:
        raise DataError(f"{_no_classes(folder)}{fitting_option(folder, 'folder')} {LAYOUT}")
    return listed


def _folders(folder: str, root: str) -> dict[str, str]:
    inside = [entry for entry in entries(folder) if entry.is_dir() or entry.is_symlink()]
    for entry in inside:
        require_inside(entry.path, root, is_link=entry.is_symlink())
    return {entry.name: entry.path for entry in inside if entry.is_dir()}


def _classes(
    data: Data,
    folder: str,
    root: str,
    classes: dict[str, str],
    *,
    split: str = "train",
    flat: bool = False,
) -> LabelledFiles:
    """Return the files of a folder's classes; of a flat folder, those that lie in it."""
    part, others, empty = LabelledFiles(), list[str](), list[str]()
    loose = [entry.path for entry in entries(folder) if is_image_name(entry.path)]
    if flat:
        part.files.extend(walk(folder, root, others))
    elif loose:
        message = "%s: passed over %d images that lie in no class, first %s"
        _warn_once(message, folder, len(loose), loose[0].rpartition("/")[2])
    for name, path in classes.items():
        files = list(walk(path, root, others))
        if not files:
            empty.append(path)
        part.files.extend(files)
        part.labels.extend([name] * len(files))
    part.ids.extend(file.removeprefix(f"{folder}/") for file in part.files)
    if empty and part.files and split == "train" and not data.allow_missing_classes:
        raise DataError(
            f"{empty[0]} holds no image. {describe_contents(empty[0])} Add images or remove the "
            "folder, or set data.allow_missing_classes=true to train without it."
        )
    if others:
        message = "%s: passed over %d files that are no images by their name, first %s"
        _warn_once(message, folder, len(others), others[0].removeprefix(f"{folder}/"))
    return part


@lru_cache(maxsize=64)
def _warn_once(message: str, *facts: str | int) -> None:
    """Log a warning once a process: a command opens its images several times."""
    _log.warning(message, *facts)


def _warn_of_others(folder: str, others: set[str]) -> None:
    if others:
        _warn_once(
            "%s: passed over %s, for they are no splits. data.splits={train: NAME} names others",
            folder,
            ", ".join(f"{name}/" for name in sorted(others)),
        )


def _no_classes(folder: str) -> str:
    return f"no folders of images in {folder}. {describe_contents(folder)}"
