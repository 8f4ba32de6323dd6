"""Read the files of several kinds as those of one split: one kind after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import tensorflow as tf

from flowersweep.data.readers import Decode, Reader, Rows
from flowersweep.data.records import FileFingerprint


@dataclass(frozen=True)
class FileGroup:
    """Files that are read alike."""

    reader: Reader
    files: int
    images: int


def join_readers(groups: Sequence[FileGroup]) -> Reader:
    """Return what reads the files of all groups, one group after the other."""
    merged: list[FileGroup] = []
    for group in _flat(groups):
        if merged and merged[-1].reader == group.reader:
            files, images = merged[-1].files + group.files, merged[-1].images + group.images
            merged[-1] = replace(group, files=files, images=images)
        else:
            merged.append(group)
    return merged[0].reader if len(merged) == 1 else JoinedReader(tuple(merged))


def _flat(groups: Sequence[FileGroup]) -> Iterator[FileGroup]:
    for group in groups:
        if isinstance(group.reader, JoinedReader):
            yield from group.reader.groups
        else:
            yield group


@dataclass(frozen=True)
class JoinedReader:
    """Reads groups of files, each by the reader of its kind."""

    groups: tuple[FileGroup, ...]

    def fingerprints(self, files: Sequence[str]) -> tuple[FileFingerprint, ...]:
        return tuple(
            stamp
            for group, paths, _ in self._placed(files)
            for stamp in group.reader.fingerprints(paths)
        )

    def images(self, files: Sequence[str], rows: Rows, decode: Decode) -> Any:
        parts = [
            group.reader.images(paths, rows[own] - start, decode)
            for group, paths, start in self._placed(files)
            for own in [(rows >= start) & (rows < start + group.images)]
            if own.any() or not len(rows)
        ]
        return _one_after_another(parts)

    def batches(self, files: Sequence[str]) -> Any:
        return _one_after_another(
            [group.reader.batches(paths) for group, paths, _ in self._placed(files)]
        )

    def shuffled(
        self, files: Sequence[str], counts: Sequence[int], rng: np.random.Generator
    ) -> tuple[Rows, Callable[[Rows, Decode], Any]]:
        """Groups take turns by chance; within each the order is that of its reader."""
        places = list(self._placed(files))
        files_read = np.cumsum([group.files for group, *_ in places])
        parts = [
            group.reader.shuffled(paths, counts[end - group.files : end], rng)
            for (group, paths, _), end in zip(places, files_read, strict=True)
        ]
        turns = rng.permutation(np.repeat(np.arange(len(parts)), [len(p[0]) for p in parts]))
        starts = np.array([start for *_, start in places])
        ends = np.cumsum([group.images for group, *_ in places])
        order = np.empty(len(turns), np.int64)
        for part, (own, _) in enumerate(parts):
            order[turns == part] = own + starts[part]

        def read(rows: Rows, decode: Decode) -> Any:
            owner = np.searchsorted(ends, rows, side="right")
            streams = [
                part_read(rows[owner == part] - starts[part], decode)
                for part, (_, part_read) in enumerate(parts)
            ]
            turn = tf.data.Dataset.from_tensor_slices(owner.astype(np.int64))
            return tf.data.Dataset.choose_from_datasets(streams, turn, stop_on_empty_dataset=False)

        return order, read

    def _placed(self, files: Sequence[str]) -> Iterator[tuple[FileGroup, Sequence[str], int]]:
        """Yield each group, its files, and the number of its first image."""
        file = image = 0
        for group in self.groups:
            yield group, files[file : file + group.files], image
            file, image = file + group.files, image + group.images


def _one_after_another(datasets: Sequence[Any]) -> Any:
    return reduce(lambda first, second: first.concatenate(second), datasets)
