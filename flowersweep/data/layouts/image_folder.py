"""Photographs in folders of classes: ``train/CLASS/*``, ``val/CLASS/*``, or ``CLASS/*`` alone."""

from __future__ import annotations

import os

from flowersweep.config.schema import Data
from flowersweep.data.files import (
    describe_contents,
    entries,
    is_folder,
    is_image_name,
    leads_back,
    require_target,
    walk,
    warn_of_links,
    warn_once,
)
from flowersweep.data.layouts.inspection import LabelledFiles
from flowersweep.data.layouts.split_names import names_of_splits
from flowersweep.data.layouts.suggestions import fitting_option
from flowersweep.errors import DataError
from flowersweep.util.text import quantity

LAYOUT = (
    "data=folder reads PATH/CLASS/*.jpg, or PATH/train/CLASS/*.jpg with PATH/val/CLASS/*.jpg and "
    "PATH/test/ if you like."
)


def list_folder(data: Data, folder: str) -> dict[str, LabelledFiles]:
    """Return the files of each split of a folder.

    A folder ``train`` that holds folders is a split. Without one all classes are in train, of which
    other splits may be cut. Test may be flat, without classes. Classes and files are sorted.

    Raises:
        DataError: There are no classes, a class has no image, or a link leads to nothing.
    """
    folders = _folders(folder)
    splits = {
        split: name
        for split, name in names_of_splits(folders, data.splits).items()
        if (data.splits.get(split) is not None or split == "test" or _folders(folders[name]))
    }
    if "train" not in splits:
        if "val" in splits:
            raise DataError(
                f"{folder} has {splits['val']}/ and no train/. {describe_contents(folder)} Name "
                f"it: data.splits={{train: NAME}}. {LAYOUT}"
            )
        classes = {name: path for name, path in folders.items() if name not in splits.values()}
        listed = {"train": _classes(data, folder, classes)}
    else:
        _warn_of_others(folder, {*folders} - {*splits.values()})
        listed = {}
    for split, name in splits.items():
        inside = _folders(folders[name])
        listed[split] = _classes(
            data, folders[name], inside, split=split, flat=split == "test" and not inside
        )
    if not listed["train"].files:
        raise DataError(f"{_no_classes(folder)}{fitting_option(folder, 'folder')} {LAYOUT}")
    warn_of_links(folder, (file for part in listed.values() for file in part.files))
    return listed


def _folders(folder: str) -> dict[str, str]:
    folders = {}
    for entry in entries(folder):
        if not is_folder(entry):
            require_target(entry.path)
        elif not leads_back(entry.path, [os.path.realpath(folder)]):
            folders[entry.name] = entry.path
    return folders


def _classes(
    data: Data,
    folder: str,
    classes: dict[str, str],
    *,
    split: str = "train",
    flat: bool = False,
) -> LabelledFiles:
    """Return the files of a folder's classes; of a flat folder, those that lie in it."""
    part, others, empty = LabelledFiles(), list[str](), list[str]()
    loose = [entry.path for entry in entries(folder) if is_image_name(entry.path)]
    if flat:
        part.files.extend(walk(folder, others))
    elif loose:
        message = "%s: passed over %s in no class, first %s"
        count = quantity(len(loose), "image")
        warn_once(message, folder, count, loose[0].rpartition("/")[2])
    for name, path in classes.items():
        files = list(walk(path, others))
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
        message = "%s: passed over %s of other kinds by their names, first %s"
        count = quantity(len(others), "file")
        warn_once(message, folder, count, others[0].removeprefix(f"{folder}/"))
    return part


def _warn_of_others(folder: str, others: set[str]) -> None:
    if others:
        warn_once(
            "%s: passed over %s, for they are no splits. data.splits={train: NAME} names others",
            folder,
            ", ".join(f"{name}/" for name in sorted(others)),
        )


def _no_classes(folder: str) -> str:
    return f"no folders of images in {folder}. {describe_contents(folder)}"
