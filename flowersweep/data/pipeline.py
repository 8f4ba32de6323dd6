"""Turn files into uint8 batches: read, decode and resize in parallel, in a reproducible order."""

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
from flowersweep.data.images import Images, Size, decode, decode_and_resize
from flowersweep.data.records import FileFingerprint, fingerprint, jpeg_of, jpegs_of, raw_records
from flowersweep.errors import DataError

Batches = Iterator[tuple[Images, npt.NDArray[np.int32]]]
Rows = npt.NDArray[np.int64]  # indexes of images in a split
Decoder = Callable[[Rows], Iterator[Images]]  # decodes the images of these indexes in chunks

IN_MEMORY = 2 << 30  # bytes of JPEGs: a smaller split stays in memory and is shuffled as a whole
BUFFER = 4096  # records in the shuffle buffer of a larger split
_CHUNK = 256  # records or images at a time if there is no batch size
_AUTO = tf.data.AUTOTUNE


def in_order(split: Split, image_size: Size, batch: int) -> Iterator[Images]:
    """Yield every image once in file order: uint8 (batch, H, W, 3); the last one may be shorter."""
    return _decoder(split, image_size, batch)(np.arange(len(split)))


def padded(
    split: Split, image_size: Size, batch: int, rows: Rows, *, keep: bool = False
) -> Iterator[Images]:
    """Yield this host's part of each batch: uint8 (batch / hosts, H, W, 3).

    Zeros fill the last batch, and all hosts yield the same number of batches.

    Args:
        split: The split to read.
        image_size: Height and width.
        batch: Images per batch over all hosts.
        rows: Sorted indexes of the images.
        keep: Whether to cache decoded images, within the budget.
    """
    host, hosts = split.share
    part, steps = batch // hosts, -(-len(rows) // batch)
    own = [rows[first : first + part] for first in range(host * part, steps * batch, batch)]
    store = _kept(split, image_size) if keep else None
    nothing = np.empty((0, *image_size, 3), np.uint8)
    decoded = _through(store, own, _decoder(split, image_size, part))
    for images in islice(chain(decoded, repeat(nothing)), steps):
        padding = np.zeros((part - len(images), *image_size, 3), np.uint8)
        yield np.concatenate([images, padding]) if len(padding) else images


def shuffled(
    split: Split, image_size: Size, batch: int, *, seed: int, epoch: int, skip: int = 0
) -> Batches:
    """Yield this host's part of one epoch in random order, from batch ``skip`` on.

    The order depends only on the arguments and is the same on all hosts. Up to ``IN_MEMORY`` bytes
    every order is equally likely. Above that the order of files is random, and records are shuffled
    in a buffer of ``BUFFER``. The remainder is dropped: XLA compiles one program per shape. Decoded
    images stay in the cache for the next epoch, within the budget.

    Yields:
        Images, uint8 (b, H, W, 3), and labels, int32 (b,), with b = batch / hosts.

    Raises:
        DataError: The split has no labels, or fewer images than one batch.
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
    rng = np.random.Generator(np.random.PCG64([seed, epoch]))
    stamps = tuple(fingerprint(file) for file in split.files)
    host, hosts = split.share
    if sum(file.size for file in stamps) <= IN_MEMORY:
        order = rng.permutation(len(split))
        decoder: Decoder = partial(_from_memory, stamps, image_size, batch // hosts)
    else:
        files = [int(index) for index in rng.permutation(len(split.files))]
        shuffle = partial(_shuffle, seed=int(rng.integers(1 << 31)))
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
    """Return the images at ``indexes`` (k,), in that order: uint8 (k, H, W, 3).

    Without ``image_size`` they all get the size of the first.

    Raises:
        DataError: An index is not in the split.
    """
    unique, places = np.unique(np.asarray(indexes, dtype=np.int64), return_inverse=True)
    if unique.size and not 0 <= unique[0] <= unique[-1] < len(split):
        raise DataError(
            f"{split.name} has no image {unique[-1] if unique[0] >= 0 else unique[0]}: it holds "
            f"images 0 to {len(split) - 1}."
        )
    numbered = (
        raw_records(split.files)
        .enumerate()
        .filter(lambda number, _: tf.reduce_any(number == unique))
        .take(unique.size)
    )
    jpegs = [jpeg_of(raw) for _, raw in numbered]
    if not jpegs:
        return np.empty((0, *(image_size or (0, 0)), 3), np.uint8)
    first = decode(jpegs[places[0]]).shape
    images: Images = np.stack(
        [decode_and_resize(jpeg, image_size or (first[0], first[1])).numpy() for jpeg in jpegs]
    )
    return images[places]


@lru_cache(maxsize=1)
def _held(stamps: tuple[FileFingerprint, ...]) -> Any:
    """Read the image bytes of a split once; return a string tensor (n,) in file order."""
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
        _held.cache_clear()  # every image is decoded: free the JPEGs
    return store


def _through(
    store: ImageCache | None, batches: Sequence[Rows] | Rows, decoder: Decoder
) -> Iterator[Images]:
    """Yield the images of each batch; decode only those that are not cached, ahead of time."""
    rows = np.concatenate(batches) if len(batches) else np.empty(0, np.int64)
    undecoded = rows if store is None else rows[~store.there[rows]]
    fresh = decoder(undecoded) if undecoded.size else iter(())
    if store is None:
        yield from fresh
        return
    count = 0
    for batch in batches:
        while not store.there[batch].all():
            images = next(fresh)
            store.put(undecoded[count : count + len(images)], images)
            count += len(images)
        yield store.images[batch]


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
    """Decode the images ``rows``, in this order; ``order`` has the indexes of all records read."""
    mask = tf.constant(np.isin(order, rows))
    chosen = records().take(len(order)).enumerate().filter(lambda place, _: mask[place])
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
    """Return the indexes of the images in the order in which the shuffle buffer yields them."""
    ends = np.cumsum(split.counts)
    numbers = np.concatenate(
        [np.arange(ends[file] - split.counts[file], ends[file]) for file in files]
    )
    indexes = shuffle(tf.data.Dataset.from_tensor_slices(numbers))
    order: Rows = indexes.batch(len(numbers)).get_single_element().numpy()
    return order
