"""Files to batches: read, decode and resize in parallel on the host, uint8 to the device, the order fixed to the last image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from flowersweep.data.dataset import Split
from flowersweep.data.decoded import ImageCache, open_cache
from flowersweep.data.records import (
    FileFingerprint,
    Images,
    Size,
    decode,
    decode_and_resize,
    fingerprint,
    jpeg_of,
    jpegs_of,
    raw_records,
)
from flowersweep.errors import DataError

Batches = Iterator[tuple[Images, npt.NDArray[np.int32]]]
Rows = npt.NDArray[np.int64]  # numbers of images in a split
Decoder = Callable[[Rows], Iterator[Images]]  # decodes these images, in chunks

IN_MEMORY = (
    2 << 30
)  # bytes of JPEGs: a split below this is held in memory to be shuffled as a whole
BUFFER = 4096  # records in the shuffle buffer of a split above it
_CHUNK = 256  # records or images at a time, where no batch says how many
_AUTO = tf.data.AUTOTUNE


def in_order(split: Split, image_size: Size, batch: int) -> Iterator[Images]:
    """Yield every image once in file order: uint8 (b, H, W, 3), b = ``batch`` but for a shorter last one."""
    return _decoder(split, image_size, batch)(np.arange(len(split)))


def padded(
    split: Split, image_size: Size, batch: int, rows: Rows, *, keep: bool = False
) -> Iterator[Images]:
    """Yield this host's part of each batch of the images ``rows`` (sorted): uint8 (batch / hosts, H, W, 3); zeros fill the last one.

    Every host yields as many batches. With ``keep`` the decoded images are kept for the next time, within the budget.
    """
    host, hosts = split.share
    part, steps = batch // hosts, -(-len(rows) // batch)
    own = [rows[first : first + part] for first in range(host * part, steps * batch, batch)]
    store = _kept(split, image_size) if keep else None
    nothing = np.empty((0, *image_size, 3), np.uint8)
    found = _through(store, own, _decoder(split, image_size, part))
    for images in islice(chain(found, repeat(nothing)), steps):
        yield (
            np.concatenate([images, np.zeros((part - len(images), *image_size, 3), np.uint8)])
            if len(images) < part
            else images
        )


def shuffled(
    split: Split, image_size: Size, batch: int, *, seed: int, epoch: int, skip: int = 0
) -> Batches:
    """Yield this host's part of one epoch in random order, from batch ``skip`` on: uint8 (b, H, W, 3) and int32 (b,), b = batch / hosts.

    A pure function of its arguments, the same order on all hosts. Up to ``IN_MEMORY`` bytes every order of the records is equally
    likely; above it files are shuffled whole and records within a buffer of ``BUFFER``. The remainder is dropped: XLA compiles one
    program per shape. Decoded images are kept for the next epoch, within the budget.

    Raises:
        DataError: the split has no labels, or fewer images than one batch.
    """
    if split.labels is None:
        raise DataError(
            f"{split.name} has no labels to train with. Splits with labels: train, val."
        )
    if len(split) < batch:
        raise DataError(
            f"{split.name} has {len(split)} images, fewer than one batch of {batch}. Make the "
            "batch smaller."
        )
    chance = np.random.Generator(np.random.PCG64([seed, epoch]))
    stamps = tuple(fingerprint(file) for file in split.files)
    host, hosts = split.share
    if sum(file.size for file in stamps) <= IN_MEMORY:
        order = chance.permutation(len(split))
        decoder: Decoder = partial(_from_memory, stamps, image_size, batch // hosts)
    else:
        files = [int(index) for index in chance.permutation(len(split.files))]
        shuffle = partial(_shuffle, seed=int(chance.integers(1 << 31)))
        order = _buffered(split, files, shuffle)
        records = partial(raw_records, [split.files[index] for index in files])
        decoder = partial(
            _from_files, lambda: shuffle(records()), order, image_size, batch // hosts
        )
    rows = order[: len(order) // batch * batch].reshape(-1, hosts, batch // hosts)[skip:, host]
    return zip(_through(_kept(split, image_size), rows, decoder), split.labels[rows], strict=True)


def read_images(
    split: Split, indexes: Sequence[int] | npt.NDArray[np.integer], image_size: Size | None = None
) -> Images:
    """Return the images at ``indexes`` (k,), in that order: uint8 (k, H, W, 3); without ``image_size``, in the size of the first of them.

    Raises:
        DataError: an index is not in the split.
    """
    wanted, places = np.unique(np.asarray(indexes, dtype=np.int64), return_inverse=True)
    if wanted.size and not 0 <= wanted[0] <= wanted[-1] < len(split):
        raise DataError(
            f"{split.name} has no image {wanted[-1] if wanted[0] >= 0 else wanted[0]}: it holds "
            f"images 0 to {len(split) - 1}."
        )
    numbered = (
        raw_records(split.files)
        .enumerate()
        .filter(lambda number, _: tf.reduce_any(number == wanted))
        .take(wanted.size)
    )
    jpegs = [jpeg_of(raw) for _, raw in numbered]
    if not jpegs:
        return np.empty((0, *(image_size or (0, 0)), 3), np.uint8)
    first = decode(jpegs[places[0]]).shape
    images: Images = np.stack(
        [decode_and_resize(jpeg, image_size or (first[0], first[1])).numpy() for jpeg in jpegs]
    )
    return images[places]


def one_image(split: Split, index: int, image_size: Size | None = None) -> Images:
    """Return one image: uint8 (H, W, 3), as stored unless ``image_size`` is given."""
    image: Images = read_images(split, [index], image_size)[0]
    return image


@lru_cache(maxsize=1)
def _held(stamps: tuple[FileFingerprint, ...]) -> Any:
    """Read the JPEG bytes of a split once: a string tensor (n,), in file order."""
    records = raw_records([file.path for file in stamps]).batch(_CHUNK)
    return tf.concat(
        list(records.map(jpegs_of, num_parallel_calls=_AUTO, deterministic=True)), axis=0
    )


def _kept(split: Split, image_size: Size) -> ImageCache | None:
    stamps = tuple(fingerprint(file) for file in split.files)
    store = open_cache(
        stamps, image_size, len(split), split.budget, lambda: in_order(split, image_size, _CHUNK)
    )
    if store is not None and store.there.all() and split.name == "train":
        _held.cache_clear()  # the JPEGs are not needed any more
    return store


def _through(
    store: ImageCache | None, batches: Sequence[Rows] | Rows, decoder: Decoder
) -> Iterator[Images]:
    """Yield the images of each batch; only those that are not kept are decoded, ahead of their turn."""
    rows = np.concatenate(batches) if len(batches) else np.empty(0, np.int64)
    missing = rows if store is None else rows[~store.there[rows]]
    fresh = decoder(missing) if missing.size else iter(())
    if store is None:
        yield from fresh
        return
    done = 0
    for wanted in batches:
        while not store.there[wanted].all():
            images = next(fresh)
            store.put(missing[done : done + len(images)], images)
            done += len(images)
        yield store.images[wanted]


def _decoder(split: Split, image_size: Size, chunk: int) -> Decoder:
    return partial(
        _from_files, partial(raw_records, split.files), np.arange(len(split)), image_size, chunk
    )


def _from_memory(
    stamps: tuple[FileFingerprint, ...], image_size: Size, chunk: int, rows: Rows
) -> Iterator[Images]:
    jpegs = _held(stamps)
    images = tf.data.Dataset.from_tensor_slices(rows).map(
        lambda index: decode_and_resize(jpegs[index], image_size),
        num_parallel_calls=_AUTO,
        deterministic=True,
    )
    batches: Iterator[Images] = images.batch(chunk).prefetch(_AUTO).as_numpy_iterator()
    return batches


def _from_files(
    records: Callable[[], Any], order: Rows, image_size: Size, chunk: int, rows: Rows
) -> Iterator[Images]:
    """Decode ``rows``, which come in this order, out of records that are the images ``order`` of their split."""
    wanted = tf.constant(np.isin(order, rows))
    chosen = records().take(len(order)).enumerate().filter(lambda place, _: wanted[place])
    images = chosen.map(
        lambda _, raw: decode_and_resize(jpeg_of(raw), image_size),
        num_parallel_calls=_AUTO,
        deterministic=True,
    )
    batches: Iterator[Images] = images.batch(chunk).prefetch(_AUTO).as_numpy_iterator()
    return batches


def _shuffle(elements: Any, seed: int) -> Any:
    return elements.shuffle(BUFFER, seed=seed, reshuffle_each_iteration=False)


def _buffered(split: Split, files: list[int], shuffle: Callable[[Any], Any]) -> Rows:
    """Return the order that a buffer brings the records of these files into: which image comes when."""
    ends = np.cumsum(split.counts)
    numbers = np.concatenate(
        [np.arange(ends[file] - split.counts[file], ends[file]) for file in files]
    )
    order: Rows = (
        shuffle(tf.data.Dataset.from_tensor_slices(numbers))
        .batch(len(numbers))
        .get_single_element()
        .numpy()
    )
    return order
