"""Images in Parquet files, as Hugging Face data sets have them: a row an image."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from flowersweep.config.schema import Data
from flowersweep.data.diagnose import plain_fault
from flowersweep.data.files import describe_contents, files_under
from flowersweep.data.images import decode_facts
from flowersweep.data.layouts.split_names import USUAL, split_of_file, split_of_folder
from flowersweep.data.layouts.suggestions import fitting_option
from flowersweep.data.readers import Decode, Rows, ascending, by_buffer, file_stamps, in_turn
from flowersweep.data.records import FileFingerprint
from flowersweep.data.verify import Records
from flowersweep.errors import DataError, did_you_mean

_COLUMNS = {
    "image": ("image", "img", "image_bytes", "jpeg", "png", "jpg"),
    "label": ("label", "labels", "class", "fine_label", "target", "category"),
    "id": ("id", "image_id", "filename", "file_name"),
}
_CHUNK = 128  # rows at a time
_NAMED = 5  # problems listed in one message
_THREADS = 8
_LAYOUT = (
    "data=huggingface reads *.parquet of a local folder, named after their split "
    "(train-00000-of-00001.parquet) or in a folder a split."
)


@dataclass(frozen=True)
class ParquetReader:
    """Reads images from a column of Parquet files, one row after the other."""

    column: str

    def fingerprints(self, files: Sequence[str]) -> tuple[FileFingerprint, ...]:
        return file_stamps(tuple(files))

    def images(self, files: Sequence[str], rows: Rows, decode: Decode) -> Any:
        return in_turn(self._raw(files), ascending(rows), decode)

    def batches(self, files: Sequence[str]) -> Any:
        return self._raw(files).batch(_CHUNK)

    def shuffled(
        self, files: Sequence[str], counts: Sequence[int], rng: np.random.Generator
    ) -> tuple[Rows, Callable[[Rows, Decode], Any]]:
        return by_buffer(self._raw, files, counts, rng)

    def _raw(self, files: Sequence[str]) -> Any:
        paths = list(files)
        return tf.data.Dataset.from_generator(
            lambda: chain.from_iterable(map(self._bytes, paths)),
            output_signature=tf.TensorSpec((), tf.string),
        )

    def _bytes(self, path: str) -> Iterator[bytes]:
        for batch in _file(path).iter_batches(_CHUNK, columns=[self.column]):
            yield from (image_bytes(value) for value in batch.column(0).to_pylist())


def list_parquet(data: Data, folder: str) -> dict[str, tuple[str, ...]]:
    """Return the sorted Parquet files of each split.

    Raises:
        DataError: There is none of train.
    """
    files: dict[str, list[str]] = {}
    for path in files_under(folder):
        inside, _, name = path.rpartition("/")
        if name.endswith(".parquet"):
            above = split_of_folder(os.path.basename(inside), data.splits)
            files.setdefault(above or split_of_file(name, data.splits) or "", []).append(path)
    if set(files) == {""}:  # no name says a split
        files = {"train": files[""]}
    if "train" not in files:
        raise DataError(
            f"no *.parquet of train in {folder}. {describe_contents(folder)}"
            f"{fitting_option(folder, 'huggingface')} {_LAYOUT}"
        )
    return {split: tuple(files[split]) for split in USUAL if split in files}


def columns_of(path: str, configured: Mapping[str, Any]) -> dict[str, str]:
    """Return role -> name of its column.

    Raises:
        DataError: There is no column of images, or a configured one is not there.
    """
    names = list(_file(path).schema_arrow.names)
    columns = {}
    for role, usual in _COLUMNS.items():
        wanted = configured.get(role)
        if wanted is not None and wanted not in names:
            raise DataError(
                f"data.columns.{role}={wanted}: {path} has no such column. "
                f"{did_you_mean(str(wanted), names, 'Columns')}"
            )
        name = wanted if wanted is not None else next((n for n in usual if n in names), None)
        if name is not None:
            columns[role] = str(name)
        elif role == "image":
            raise DataError(
                f"{path} has no column of images. Name it: data.columns.image=NAME. Columns: "
                f"{', '.join(names)}"
            )
    return columns


def label_names(path: str, column: str) -> tuple[str, ...] | None:
    """Return the names of classes that Hugging Face's `datasets` wrote; None if there are none."""
    metadata = (_file(path).schema_arrow.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(metadata or b"{}")["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def read_parquet(files: Sequence[str], columns: Mapping[str, str]) -> Records:
    """Decode every row of ``files``.

    Raises:
        DataError: A file or an image cannot be read. The message lists up to five problems.
    """
    labels: list[Any] = []
    ids: list[str] = []
    facts: list[tuple[int, int, int]] = []
    faults: list[str] = []
    counts = []
    wanted = list(columns.values())
    with ThreadPoolExecutor(_THREADS) as pool:
        for path in files:
            start = len(facts)
            for batch in _file(path).iter_batches(_CHUNK, columns=wanted):
                values = batch.to_pydict()
                row = len(facts) - start
                name = os.path.basename(path)
                for index, outcome in enumerate(pool.map(_facts, values[columns["image"]])):
                    if isinstance(outcome, str):
                        faults.append(f"{path}, row {row + index}: {outcome}")
                    facts.append((0, 0, 0) if isinstance(outcome, str) else outcome)
                ids += (
                    map(str, values[columns["id"]])
                    if "id" in columns
                    else [f"{name}:{row + index}" for index in range(len(batch))]
                )
                labels += values[columns["label"]] if "label" in columns else [-1] * len(batch)
            counts.append(len(facts) - start)
    if faults:
        advice = "Rows are counted from 0. Download the file again, or write it without that row."
        raise DataError("\n".join([*faults[:_NAMED], advice]))
    table = np.array(facts, np.int64).reshape(-1, 3)
    return Records(
        _labels(labels),
        np.array(ids, np.str_),
        np.array(counts, np.int64),
        table[:, :2].astype(np.int32),
        table[:, 2].astype(np.uint8),
    )


def count_rows(path: str) -> int:
    """Return the number of rows of a Parquet file."""
    return int(_file(path).metadata.num_rows)


def named_images(path: str, columns: Mapping[str, str]) -> Iterator[tuple[str | None, bytes]]:
    """Yield the id of each row, if there is a column of ids, and the bytes of its image."""
    for batch in _file(path).iter_batches(_CHUNK, columns=list(columns.values())):
        values = batch.to_pydict()
        ids = values[columns["id"]] if "id" in columns else [None] * len(batch)
        yield from zip(map(_text, ids), map(image_bytes, values[columns["image"]]), strict=True)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _labels(values: list[Any]) -> npt.NDArray[Any]:
    if any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else value for value in values], np.str_)
    return np.array([-1 if value is None else int(value) for value in values], np.int64)


def image_bytes(value: Any) -> bytes:
    """Return the bytes of an image: of a column of bytes, or of bytes and path."""
    content = value.get("bytes") if isinstance(value, Mapping) else value
    return bytes(content) if isinstance(content, bytes) else b""


def _facts(value: Any) -> tuple[int, int, int] | str:
    content = image_bytes(value)
    if not content:
        return "holds no bytes of an image (it may name a file, which is never opened)"
    try:
        return decode_facts(content)
    except (tf.errors.OpError, DataError) as error:
        return plain_fault(error)


def _file(path: str) -> Any:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError("Parquet files need pyarrow: pip install pyarrow") from error
    try:
        return ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is no whole Parquet file ({plain_fault(error)}).") from error
