"""Files in the folder of a data set that are no part of it, and why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset
from flowersweep.data.files import is_hidden, is_image_name
from flowersweep.data.layouts.inspection import LEFT_OUT

LOOKED_AT = 200_000  # files: a table may lie in a folder that holds everything
LISTED = 20  # files of a reason that are named
_HIDDEN = "hidden files, and copies of names that macOS makes"
_OTHERS = "files that are no images by their name"
_IMAGES = {
    "folder": "images in no class or split",
    "csv": "images that the table does not list",
}
# files that a reader knows, or that say something of the images
_KNOWN = ("classes.txt", "label.labels.txt", "features.json", "dataset_info.json")


@dataclass
class PassedOver:
    """The files that were passed over for one reason."""

    reason: str
    count: int = 0
    files: list[str] = field(default_factory=list)  # the first ones, in the folder

    def add(self, file: str) -> None:
        self.count += 1
        if len(self.files) < LISTED:
            self.files.append(file)


def unreadable(dataset: Dataset) -> list[str]:
    """Return the files that were left out because they cannot be read, each with its fault."""
    return [
        remark.removeprefix(LEFT_OUT).removeprefix(f"{dataset.dir}/")
        for remark in dataset.remarks
        if remark.startswith(LEFT_OUT)
    ]


def passed_over(data: Data, dataset: Dataset) -> list[PassedOver]:
    """Return the files in the folder of a data set that are in no split, by reason.

    Unreadable images are not among them. Nothing is returned of an address such as ``gs://``.
    """
    used = {file for split in dataset.splits.values() for file in split.files}
    used |= {f"{dataset.dir}/{text.partition(': ')[0]}" for text in unreadable(dataset)}
    known = {*_KNOWN, *(os.path.basename(file) for file in (data.file, data.classes) if file)}
    reasons: dict[str, PassedOver] = {}
    for file in () if "://" in dataset.dir else _files(dataset.dir):
        if f"{dataset.dir}/{file}" not in used and os.path.basename(file) not in known:
            reason = _reason(file, data.format)
            reasons.setdefault(reason, PassedOver(reason)).add(file)
    return sorted(reasons.values(), key=lambda each: each.reason == _OTHERS)


def _files(folder: str) -> Iterator[str]:
    """Yield the files of a folder at any depth, sorted, relative to it."""
    count = 0
    for inside, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if (count := count + 1) > LOOKED_AT:
                return
            yield os.path.relpath(f"{inside}/{name}", folder)


def _reason(file: str, format: str) -> str:
    if any(map(is_hidden, file.split(os.sep))):
        return _HIDDEN
    if is_image_name(file):
        return _IMAGES.get(format, f"images, which data={format} does not read")
    return _OTHERS if format in _IMAGES else f"files that data={format} does not read"
