"""How the bytes of an image come out of files, by index. What comes after is the same for all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from flowersweep.data.records import FileFingerprint, fingerprint, raw_records

Rows = npt.NDArray[np.int64]  # indexes of images in files, in file order
BUFFER = 4096  # records in the shuffle buffer of a split that is too large for memory
_CHUNK = 256  # images at a time
_AUTO = tf.data.AUTOTUNE


Decode = Callable[[Any], Any]  # from the bytes of an image file, a scalar string tensor


class Reader(Protocol):
    """Reads images and decodes them, in parallel, into a tf.data.Dataset; equal ones read alike."""

    def __hash__(self) -> int: ...

    def fingerprints(self, files: Sequence[str]) -> tuple[FileFingerprint, ...]:
        """Return what identifies this version of each file."""

    def images(self, files: Sequence[str], rows: Rows, decode: Decode) -> Any:
        """Return the images ``rows``, which ascend."""

    def batches(self, files: Sequence[str]) -> Any:
        """Return the bytes of all images, as string tensors (k,)."""

    def shuffled(
        self, files: Sequence[str], counts: Sequence[int], rng: np.random.Generator
    ) -> tuple[Rows, Callable[[Rows, Decode], Any]]:
        """Return a random order of all images, and a function that reads some of them in it."""


@dataclass(frozen=True)
class RecordReader:
    """Reads images from a feature of TFRecords, one record after the other."""

    image: str = "image"
    compression: str = ""  # or GZIP

    def fingerprints(self, files: Sequence[str]) -> tuple[FileFingerprint, ...]:
        return tuple(map(fingerprint, files))

    def images(self, files: Sequence[str], rows: Rows, decode: Decode) -> Any:
        return in_turn(self._raw(files), ascending(rows), self._parsed(decode))

    def batches(self, files: Sequence[str]) -> Any:
        # many records are parsed in a third of the time
        return (
            self._raw(files)
            .batch(_CHUNK)
            .map(
                lambda raw: tf.io.parse_example(raw, self._feature())[self.image],
                num_parallel_calls=_AUTO,
                deterministic=True,
            )
        )

    def shuffled(
        self, files: Sequence[str], counts: Sequence[int], rng: np.random.Generator
    ) -> tuple[Rows, Callable[[Rows, Decode], Any]]:
        order, read = by_buffer(self._raw, files, counts, rng)
        return order, lambda rows, decode: read(rows, self._parsed(decode))

    def _raw(self, files: Sequence[str]) -> Any:
        return raw_records(files, self.compression)

    def _feature(self) -> dict[str, Any]:
        return {self.image: tf.io.FixedLenFeature([], tf.string)}

    def _parsed(self, decode: Decode) -> Decode:
        return lambda raw: decode(tf.io.parse_single_example(raw, self._feature())[self.image])


@dataclass(frozen=True)
class FileReader:
    """Reads image files: each holds one image."""

    def fingerprints(self, files: Sequence[str]) -> tuple[FileFingerprint, ...]:
        return file_stamps(tuple(files))

    def images(self, files: Sequence[str], rows: Rows, decode: Decode) -> Any:
        paths = tf.data.Dataset.from_tensor_slices(np.array(files, np.str_)[rows])
        return paths.map(
            lambda path: decode(tf.io.read_file(path)), num_parallel_calls=_AUTO, deterministic=True
        )

    def batches(self, files: Sequence[str]) -> Any:
        return self.images(files, np.arange(len(files)), tf.identity).batch(_CHUNK)

    def shuffled(
        self, files: Sequence[str], counts: Sequence[int], rng: np.random.Generator
    ) -> tuple[Rows, Callable[[Rows, Decode], Any]]:
        """Every order is equally likely: a file is found by its name."""
        return rng.permutation(len(files)), lambda rows, decode: self.images(files, rows, decode)


def ascending(rows: Rows) -> npt.NDArray[np.bool_]:
    """Return a mask of images in file order, up to the last of ``rows``."""
    return np.isin(np.arange(rows.max(initial=0) + 1), rows)


def in_turn(elements: Any, mask: npt.NDArray[np.bool_], decode: Decode) -> Any:
    """Decode the elements of a tf.data.Dataset that a mask chooses, reading one after the other."""
    flags = tf.constant(mask)
    chosen = elements.take(len(mask)).enumerate().filter(lambda place, _: flags[place])
    return chosen.map(
        lambda _, element: decode(element), num_parallel_calls=_AUTO, deterministic=True
    )


def by_buffer(
    raw: Callable[[list[str]], Any],
    files: Sequence[str],
    counts: Sequence[int],
    rng: np.random.Generator,
) -> tuple[Rows, Callable[[Rows, Decode], Any]]:
    """Return a random order of all images, and a function that reads some of them in it.

    The order of files is random. Their images go through a buffer of ``BUFFER``.

    Args:
        raw: Returns the undecoded images of files as a tf.data.Dataset.
        files: The files.
        counts: The images of each.
        rng: Draws the order.
    """
    chosen = [int(index) for index in rng.permutation(len(files))]
    seed, ends = int(rng.integers(1 << 31)), np.cumsum(counts)
    numbers = np.concatenate([np.arange(ends[file] - counts[file], ends[file]) for file in chosen])

    def shuffle(elements: Any) -> Any:
        return elements.shuffle(BUFFER, seed=seed, reshuffle_each_iteration=False)

    mixed = shuffle(tf.data.Dataset.from_tensor_slices(numbers))
    order: Rows = mixed.batch(len(numbers)).get_single_element().numpy()
    paths = [files[index] for index in chosen]
    return order, lambda rows, decode: in_turn(shuffle(raw(paths)), np.isin(order, rows), decode)


def file_stamps(files: tuple[str, ...]) -> tuple[FileFingerprint, ...]:
    """Identify the versions of local files."""
    return tuple(map(stamp_of, files))


def stamp_of(file: str) -> FileFingerprint:
    """Identify a version of a local file by the time of its last change of any kind, which no
    program can set.
    """
    status = os.stat(file)
    return FileFingerprint(file, status.st_size, status.st_ctime_ns)
