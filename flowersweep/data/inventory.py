"""What is in a data set: the files of each split, its labels and ids, and a digest.

Every format is verified once. The next start reads a few kilobytes instead of every image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flowersweep.config.schema import Data
from flowersweep.data.classes import read_classes
from flowersweep.data.layouts.image_folder import list_folder
from flowersweep.data.layouts.image_table import list_table
from flowersweep.data.layouts.inspection import (
    LabelledFiles,
    digest_of,
    inspect_files,
    without_unreadable,
)
from flowersweep.data.layouts.labels import class_names, indexed
from flowersweep.data.layouts.parquet import (
    ParquetReader,
    columns_of,
    label_names,
    list_parquet,
    read_parquet,
)
from flowersweep.data.layouts.record_schema import schema_of
from flowersweep.data.layouts.split_names import require_splits
from flowersweep.data.layouts.verified import mixed_digest, verified_records
from flowersweep.data.places import find_files
from flowersweep.data.readers import FileReader, Reader, RecordReader, Rows
from flowersweep.data.records import compression_of
from flowersweep.data.splitting import stratified_part
from flowersweep.data.verify import Records, check_labels, read_records, warn_of_duplicates
from flowersweep.errors import DataError
from flowersweep.util.text import quantity


@dataclass(frozen=True)
class Part:
    """One split: its files, how they are read, and what they hold."""

    files: tuple[str, ...]
    reader: Reader
    records: Records
    rows: Rows | None = None  # which images of the files; None: all of them

    def take(self, rows: Rows) -> Part:
        """Return some of the images, in ascending order."""
        records = replace(
            self.records,
            **{
                name: getattr(self.records, name)[rows]
                for name in ("labels", "ids", "sizes", "notes")
            },
        )
        if isinstance(self.reader, FileReader):
            files = tuple(self.files[row] for row in rows)
            return replace(self, files=files, records=replace(records, counts=np.ones_like(rows)))
        return replace(self, records=records, rows=rows if self.rows is None else self.rows[rows])


@dataclass(frozen=True)
class Inventory:
    """What is in a data set."""

    parts: dict[str, Part]  # train, val and, if present, test
    classes: tuple[str, ...] | None  # None: nothing names them
    digest: str
    remarks: tuple[str, ...] = ()  # what was done to the splits
    cut: tuple[str, ...] = ()  # splits that were cut from train


def take_inventory(data: Data, folder: str, cache: Path) -> Inventory:
    """Verify every image, or recall the result from ``cache`` if no file changed.

    A change is one of a file's name, size, modification time or content.

    Raises:
        DataError: A file, an image or a label is invalid, or a split is empty.
    """
    require_splits(data.splits)
    inventory = _READERS[data.format](data, folder, cache)
    inventory = replace(inventory, digest=mixed_digest(inventory.digest, inventory.classes))
    limit = None if inventory.classes is None else len(inventory.classes)
    for name, part in inventory.parts.items():
        warn_of_duplicates(name, part.records.ids)
        if name != "test" or (part.records.labels >= 0).any():
            check_labels(part.files, part.records, limit)
    rest = 1.0 if "test" in inventory.parts else 1 - data.test_fraction
    inventory = _cut(inventory, "test", data.test_fraction, data.split_seed)
    # of what was in train before test was cut from it
    return _cut(inventory, "val", min(data.val_fraction / rest, 0.9), data.split_seed)


def _cut(inventory: Inventory, name: str, fraction: float, seed: int) -> Inventory:
    """Return the inventory with a stratified part of train as the split ``name``, unless there is
    one already, or none is wanted.
    """
    if name in inventory.parts or not fraction:
        return inventory
    train = inventory.parts["train"]
    rest, part = stratified_part(train.records.labels, fraction, seed)
    if not len(part):
        raise DataError(
            f"train has no class with two images, so none can be cut for {name}. Add images, or a "
            f"folder {name}/."
        )
    parts = {**inventory.parts, "train": train.take(rest), name: train.take(part)}
    return replace(
        inventory,
        parts={split: parts[split] for split in ("train", "val", "test") if split in parts},
        digest=mixed_digest(inventory.digest, [name, part.tolist()]),
        remarks=(
            *inventory.remarks,
            f"{name}: {quantity(len(part), 'image')} out of train, by chance within each class "
            f"(data.{name}_fraction, data.split_seed={seed})",
        ),
        cut=(*inventory.cut, name),
    )


def _of_records(data: Data, folder: str, cache: Path) -> Inventory:
    return inventory_of_records(data, folder, find_files(folder, data.splits), cache)


def inventory_of_records(
    data: Data, folder: str, files: Mapping[str, tuple[str, ...]], cache: Path
) -> Inventory:
    """Return what is in TFRecords, given by split. Raises DataError like `take_inventory`."""
    compressions = {name: _compression(paths) for name, paths in files.items()}
    schemas = {
        name: schema_of(paths[0], compressions[name], data.columns) for name, paths in files.items()
    }
    for name in files.keys() - {"test"}:
        if schemas[name].label is None:
            raise DataError(
                f"the first record of {files[name][0]} has no feature that is a label by its name: "
                "data.columns.label=NAME"
            )
    splits, total = verified_records(
        files,
        {name: vars(schema) for name, schema in schemas.items()},
        lambda name: read_records(files[name], schemas[name], compressions[name]),
        cache,
    )
    splits, classes = _with_indexes(splits, data, read_classes(data.classes, folder))
    parts = {
        name: Part(paths, RecordReader(schemas[name].image, compressions[name]), splits[name])
        for name, paths in files.items()
    }
    return Inventory(parts, classes, total)


def inventory_of_parquet(data: Data, folder: str, cache: Path) -> Inventory:
    """Return what is in a folder of Parquet files. Raises DataError like `take_inventory`."""
    files = list_parquet(data, folder)
    columns = {name: columns_of(paths[0], data.columns) for name, paths in files.items()}
    splits, total = verified_records(
        files, columns, lambda name: read_parquet(files[name], columns[name]), cache
    )
    label = columns["train"].get("label", "")
    names = data.classes and read_classes(data.classes, folder)
    known = names or label_names(files["train"][0], label) or read_classes(None, folder)
    splits, classes = _with_indexes(splits, data, known)
    parts = {
        name: Part(paths, ParquetReader(columns[name]["image"]), splits[name])
        for name, paths in files.items()
    }
    return Inventory(parts, classes, total)


def _with_indexes(
    splits: dict[str, Records], data: Data, names: tuple[str, ...] | None
) -> tuple[dict[str, Records], tuple[str, ...] | None]:
    """Return the splits with numbers for labels, and the classes where something names them."""
    texts = {
        name: records.labels for name, records in splits.items() if records.labels.dtype.kind == "U"
    }
    if not texts:
        return splits, names
    classes = (names if data.classes is not None else None) or class_names(texts)
    numbers = indexed(texts, classes, named=data.classes)
    return {
        name: replace(records, labels=numbers.get(name, records.labels))
        for name, records in splits.items()
    }, classes


def _compression(files: tuple[str, ...]) -> str:
    compressed = {file: compression_of(file) for file in files}
    if len({*compressed.values()}) > 1:
        plain = next(file for file, kind in compressed.items() if not kind)
        zipped = next(file for file, kind in compressed.items() if kind)
        raise DataError(
            f"{zipped} is compressed by GZIP and {plain} is not. Compress all files of a split, or "
            "none."
        )
    return compressed[files[0]]


def _of_folder(data: Data, folder: str, cache: Path) -> Inventory:
    return inventory_of_files(data, list_folder(data, folder), cache)


def _of_table(data: Data, folder: str, cache: Path) -> Inventory:
    return inventory_of_files(data, list_table(data, folder), cache)


def inventory_of_files(data: Data, listed: Mapping[str, LabelledFiles], cache: Path) -> Inventory:
    """Return what is in image files, given by split. Raises DataError like `take_inventory`."""
    files = [file for part in listed.values() for file in part.files]
    facts = dict(zip(files, inspect_files(files, cache), strict=True))
    splits, remarks = without_unreadable(listed, facts, skip=data.skip_unreadable)
    labels = {name: np.array(part.labels, np.str_) for name, part in splits.items() if part.labels}
    classes = data.classes and read_classes(data.classes, "")
    names = classes or class_names(labels)
    numbers = indexed(labels, names, named=data.classes)
    parts = {}
    for name, part in splits.items():
        if not part.files:
            raise DataError(f"{name}: there is no image that can be read. Copy its files again.")
        known = [facts[file] for file in part.files]
        records = Records(
            numbers.get(name, np.full(len(known), -1)),
            np.array(part.ids, np.str_),
            np.ones(len(known), np.int64),
            np.array([(fact.height, fact.width) for fact in known], np.int32),
            np.array([fact.note for fact in known], np.uint8),
        )
        parts[name] = Part(tuple(part.files), FileReader(), records)
    return Inventory(parts, names, digest_of(splits, facts), tuple(remarks))


_READERS: dict[str, Callable[[Data, str, Path], Inventory]] = {
    "tfrecords": _of_records,
    "folder": _of_folder,
    "csv": _of_table,
    "huggingface": inventory_of_parquet,
}
