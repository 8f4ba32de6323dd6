"""Files to batches: read, decode and resize in parallel on the host, uint8 to the device, the order fixed to the last image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from flowersweep.data.dataset import Split
from flowersweep.data.records import Images, Size, Stamp, decode, deliver, jpeg_of, raw_records, stamp
from flowersweep.errors import DataError

Batches = Iterator[tuple[Images, npt.NDArray[np.int32]]]

IN_MEMORY = 2 << 30  # bytes of JPEGs: a split below this is held in memory to be shuffled as a whole
BUFFER = 4096  # records in the shuffle buffer of a split above it
_AUTO = tf.data.AUTOTUNE


def in_order(split: Split, image_size: Size, batch: int) -> Iterator[Images]:
    """Yield every image once in file order: uint8 (b, H, W, 3), b = ``batch`` but for a shorter last one."""
    images = raw_records(split.files).map(lambda raw: deliver(jpeg_of(raw), image_size), num_parallel_calls=_AUTO, deterministic=True)
    batches: Iterator[Images] = images.batch(batch).prefetch(_AUTO).as_numpy_iterator()
    return batches


def shuffled(split: Split, image_size: Size, batch: int, *, seed: int, epoch: int, skip: int = 0) -> Batches:
    """Yield one epoch in random order, from batch ``skip`` on: uint8 (batch, H, W, 3) and int32 (batch,).

    A pure function of its arguments. Up to ``IN_MEMORY`` bytes every order of the records is equally likely; above it files are
    shuffled whole and records within a buffer of ``BUFFER``. The remainder is dropped: XLA compiles one program per shape.

    Raises:
        DataError: the split has no labels, or fewer images than one batch.
    """
    if split.labels is None:
        raise DataError(f"{split.name} has no labels to train with. Splits with labels: train, val.")
    if len(split) < batch:
        raise DataError(f"{split.name} has {len(split)} images, fewer than one batch of {batch}. Make the batch smaller.")
    chance = np.random.Generator(np.random.PCG64([seed, epoch]))
    stamps = tuple(stamp(file) for file in split.files)
    if sum(file.size for file in stamps) <= IN_MEMORY:
        return _from_memory(_held(stamps), split.labels, image_size, _batches_of(chance.permutation(len(split)), batch)[skip:])
    return _from_files(split, image_size, batch, chance=chance, skip=skip)


def read_images(split: Split, indexes: Sequence[int] | npt.NDArray[np.integer], image_size: Size | None = None) -> Images:
    """Return the images at ``indexes`` (k,), in that order: uint8 (k, H, W, 3); without ``image_size``, in the size of the first of them.

    Raises:
        DataError: an index is not in the split.
    """
    wanted, places = np.unique(np.asarray(indexes, dtype=np.int64), return_inverse=True)
    if wanted.size and not 0 <= wanted[0] <= wanted[-1] < len(split):
        raise DataError(f"{split.name} has no image {wanted[-1] if wanted[0] >= 0 else wanted[0]}: it holds images 0 to {len(split) - 1}.")
    numbered = raw_records(split.files).enumerate().filter(lambda number, _: tf.reduce_any(number == wanted)).take(wanted.size)
    jpegs = [jpeg_of(raw) for _, raw in numbered]
    if not jpegs:
        return np.empty((0, *(image_size or (0, 0)), 3), np.uint8)
    first = decode(jpegs[places[0]]).shape
    images: Images = np.stack([deliver(jpeg, image_size or (first[0], first[1])).numpy() for jpeg in jpegs])
    return images[places]


def one_image(split: Split, index: int, image_size: Size | None = None) -> Images:
    """Return one image: uint8 (H, W, 3), as stored unless ``image_size`` is given."""
    image: Images = read_images(split, [index], image_size)[0]
    return image


@lru_cache(maxsize=1)
def _held(stamps: tuple[Stamp, ...]) -> Any:
    """Read the JPEG bytes of a split once: a string tensor (n,), in file order."""
    jpegs = raw_records([file.path for file in stamps]).map(jpeg_of, num_parallel_calls=_AUTO, deterministic=True)
    return jpegs.batch(np.iinfo(np.int64).max).get_single_element()


def _batches_of(order: npt.NDArray[np.int64], batch: int) -> npt.NDArray[np.int64]:
    return order[: len(order) // batch * batch].reshape(-1, batch)


def _from_memory(jpegs: Any, labels: npt.NDArray[np.int32], image_size: Size, order: npt.NDArray[np.int64]) -> Batches:
    indexes = tf.data.Dataset.from_tensor_slices(order.reshape(-1))
    images = indexes.map(lambda index: deliver(jpegs[index], image_size), num_parallel_calls=_AUTO, deterministic=True)
    batches = images.batch(order.shape[1], drop_remainder=True).prefetch(_AUTO).as_numpy_iterator()
    return zip(batches, labels[order], strict=True)


def _from_files(split: Split, image_size: Size, batch: int, *, chance: np.random.Generator, skip: int) -> Batches:
    def labelled(raw: Any) -> Any:
        record = tf.io.parse_single_example(raw, {"class": tf.io.FixedLenFeature([], tf.int64)})
        return deliver(jpeg_of(raw), image_size), tf.cast(record["class"], tf.int32)

    files = [split.files[index] for index in chance.permutation(len(split.files))]
    records = raw_records(files).shuffle(BUFFER, seed=int(chance.integers(1 << 31)), reshuffle_each_iteration=False)
    images = records.skip(skip * batch).map(labelled, num_parallel_calls=_AUTO, deterministic=True)
    batches: Batches = images.batch(batch, drop_remainder=True).prefetch(_AUTO).as_numpy_iterator()
    return batches
