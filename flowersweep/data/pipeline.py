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
from flowersweep.data.images import Images, Size, decode, decode_and_resize, traced_decoder
from flowersweep.data.readers import Decode, FileReader, Reader, Rows
from flowersweep.data.records import FileFingerprint
from flowersweep.data.splitting import oversample
from flowersweep.errors import DataError
from flowersweep.util.text import quantity

Batches = Iterator[tuple[Images, npt.NDArray[np.int32]]]
Decoder = Callable[[Rows], Iterator[Images]]  # decodes the images of these indexes in chunks

IN_MEMORY = 2 << 30  # bytes of JPEGs: a smaller split stays in memory and is shuffled as a whole
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
    split: Split,
    image_size: Size,
    batch: int,
    *,
    seed: int,
    epoch: int,
    skip: int = 0,
    steps: int | None = None,
    min_class_images: int = 0,
) -> Batches:
    """Yield this host's part of one epoch in random order, from batch ``skip`` to before batch
    ``steps``, with at least ``min_class_images`` of every class as far as there is room.

    The order depends only on the arguments and is the same on all hosts. Up to ``IN_MEMORY`` bytes
    every order is equally likely. Above that the order of record files is random, and records are
    shuffled in a buffer (`flowersweep.data.readers`). The remainder is dropped: XLA compiles
    one program per shape. Decoded images stay in the cache for the next epoch, within the budget.

    Yields:
        Images, uint8 (b, H, W, 3), and labels, int32 (b,), with b = batch / hosts.

    Raises:
        DataError: The split has no labels, or fewer images than one batch; or images that come
            in the order of their files cannot be shown more often.
    """
    rows, decoder = _shuffle(split, image_size, batch, seed, epoch, steps, min_class_images)
    rows = rows[skip:]
    images = _through(_kept(split, image_size), rows, decoder)
    assert split.labels is not None
    return zip(images, split.labels[rows], strict=True)


def shuffled_rows(
    split: Split,
    image_size: Size,
    batch: int,
    *,
    seed: int,
    epoch: int,
    skip: int = 0,
    steps: int | None = None,
    min_class_images: int = 0,
) -> Rows:
    """Return which images `shuffled` yields, (steps, b), for those who have them already."""
    return _shuffle(split, image_size, batch, seed, epoch, steps, min_class_images)[0][skip:]


def _shuffle(
    split: Split,
    image_size: Size,
    batch: int,
    seed: int,
    epoch: int,
    steps: int | None,
    min_class_images: int,
) -> tuple[Rows, Decoder]:
    if split.labels is None:
        raise DataError(
            f"{split.name} has no labels to train with. Splits with labels: train, val."
        )
    if len(split) < batch:
        raise DataError(
            f"{split.name} has {quantity(len(split), 'image')}, fewer than one batch of {batch}. "
            "Make the batch smaller."
        )
    rng = np.random.Generator(np.random.PCG64([seed, epoch]))
    host, hosts = split.share
    if min_class_images:
        require_any_order(split)
    # image files are found by name in any order: to hold their bytes first would only cost time
    if not isinstance(split.reader, FileReader) and _fits_memory(split):
        order = rng.permutation(len(split))
        read: Callable[[Rows], Any] = partial(_from_memory, split, image_size)
    else:
        order, read_base = split.reader.shuffled(split.files, split.counts, rng)
        order = split.in_split(order)
        read = partial(_in_base, split, image_size, read_base)
    decoder = partial(_chunks, read, batch // hosts)
    order = order[: min(len(order) // batch, steps or len(order)) * batch]
    if min_class_images:
        order = oversample(order, split.labels, min_class_images, rng)
    return order.reshape(-1, hosts, batch // hosts)[:, host], decoder


def require_any_order(split: Split) -> None:
    """Raise DataError if the images come in the order of their files, for lack of memory."""
    if not isinstance(split.reader, FileReader) and not _fits_memory(split):
        raise DataError(
            f"train.min_class_images: {split.name} has more than {IN_MEMORY >> 30} GiB of records, "
            "which are read in the order of their files, so that none can come more often. Use "
            "train.min_class_images=0, or one file an image (data=folder)"
        )


def _fits_memory(split: Split) -> bool:
    return sum(file.size for file in split.fingerprints()) <= IN_MEMORY


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
    encoded = [*_stored(split, unique, tf.identity)]
    if not encoded:
        return np.empty((0, *(image_size or (0, 0)), 3), np.uint8)
    first = image_size or decode(encoded[places[0]]).shape[:2]
    images: Images = np.stack(
        [decode_and_resize(data, tuple(first), split.resize).numpy() for data in encoded]
    )
    return images[places]


@lru_cache(maxsize=1)
def _held(reader: Reader, stamps: tuple[FileFingerprint, ...]) -> Any:
    """Read the image bytes of some files once; return a string tensor (n,) in file order."""
    return tf.concat(list(reader.batches([file.path for file in stamps])), axis=0)


def _kept(split: Split, image_size: Size) -> ImageCache | None:
    store = open_cache(
        (split.fingerprints(), None if split.rows is None else split.rows.tobytes(), split.resize),
        image_size,
        len(split),
        split.budget,
        lambda: in_order(split, image_size, _CHUNK),
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
    return partial(_chunks, partial(_stored, split, decode=_decode(split, image_size)), chunk)


def _decode(split: Split, image_size: Size) -> Decode:
    return traced_decoder(image_size, split.resize, split.known)


def _stored(split: Split, rows: Rows, decode: Decode) -> Any:
    """Return the images ``rows``, which ascend, as they are stored."""
    return split.reader.images(split.files, split.in_files(rows), decode)


def _in_base(
    split: Split, image_size: Size, read: Callable[[Rows, Decode], Any], rows: Rows
) -> Any:
    return read(split.in_files(rows), _decode(split, image_size))


def _from_memory(split: Split, image_size: Size, rows: Rows) -> Any:
    encoded, decode = _held(split.reader, split.fingerprints()), _decode(split, image_size)
    return tf.data.Dataset.from_tensor_slices(split.in_files(rows)).map(
        lambda index: decode(encoded[index]), num_parallel_calls=_AUTO, deterministic=True
    )


def _chunks(read: Callable[[Rows], Any], chunk: int, rows: Rows) -> Iterator[Images]:
    batches: Iterator[Images] = read(rows).batch(chunk).prefetch(_AUTO).as_numpy_iterator()
    return batches
