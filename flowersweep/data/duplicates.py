"""Find images that are in the data twice, exactly or nearly, so that leaks into holdout are known.

The hash uses the brightness of a tiny version of each image. So duplicates may differ in bytes,
quality, size, colours and contrast; mirrored, cropped or rotated copies are not found.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset, Split, open_dataset
from flowersweep.data.images import decode_reduced
from flowersweep.errors import FlowersweepError
from flowersweep.util.arrays import cache_arrays, cached_arrays

_log = logging.getLogger(__name__)

# Largest distance of duplicates, in bits of 128. Among 10,368 photographs of flowers the two
# closest different images are 13 bits apart.
REACH = 10
ALIKE = 0.9  # least correlation of duplicates: hashes of plain images are random
SIDE = 16  # pixels of the tiny version
BLOCK = 512  # images compared with all others at once
_VERSION = 2

Hashes = npt.NDArray[np.uint64]  # (n, 2)
Tiny = npt.NDArray[np.float32]  # (n, SIDE, SIDE), brightness
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageLocation:
    """An image: its part (train, tune, holdout, test) and its record number in its split."""

    part: str
    record: int

    def __str__(self) -> str:
        return f"{'val' if self.part in ('tune', 'holdout') else self.part} {self.record}"


@dataclass(frozen=True)
class Duplicates:
    """Pairs of near-duplicates; each pair is in the order of PARTS."""

    pairs: list[tuple[ImageLocation, ImageLocation]]
    holdout: Rows  # record numbers in val, in the order of a trial's logits

    def between(self, first: str, second: str) -> list[tuple[ImageLocation, ImageLocation]]:
        """Return the pairs with one image in each of two parts."""
        return [pair for pair in self.pairs if (pair[0].part, pair[1].part) == (first, second)]

    def leaked(self) -> npt.NDArray[np.bool_]:
        """Return a mask (n,) of the holdout images that are also in train or tune."""
        leaked_records = {
            second.record
            for first, second in self.pairs
            if second.part == "holdout" and first.part in ("train", "tune")
        }
        return np.isin(self.holdout, list(leaked_records))


PARTS = ("train", "tune", "holdout", "test")


def duplicates(dataset: Dataset, cache: Path) -> Duplicates:
    """Return the near-duplicates of a data set; ``cache`` keeps the result, by digest."""
    counts = {name: len(split) for name, split in dataset.splits.items()}
    return _placed(_found(dataset, cache), counts, dataset.tune, dataset.holdout)


def of_study(data: Data, digest: str, cache: Path, *, largest: int) -> Duplicates | None:
    """Return the near-duplicates in the images of a study.

    Args:
        data: The images of the study; nothing is fetched.
        digest: The data's digest when the study started.
        cache: Folder of cached results.
        largest: With more images than this, only a cached result is returned.

    Returns:
        None if the images are gone or changed, or are too many and there is no cached result.
    """
    try:
        dataset = open_dataset(replace(data, fetch=None, train_on="train"), cache)
    except (FlowersweepError, tf.errors.OpError, OSError):
        return None
    images = sum(len(split) for split in dataset.splits.values())
    if dataset.digest != digest or (images > largest and not _kept(cache, digest).exists()):
        return None
    return duplicates(dataset, cache)


def _placed(pairs: Rows, counts: dict[str, int], tune: Rows, holdout: Rows) -> Duplicates:
    """Turn pairs (m, 2) of indexes over all splits into pairs of locations."""
    starts = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
    places = [
        ImageLocation(name, record) for name, count in counts.items() for record in range(count)
    ]
    for half, rows in (("tune", tune), ("holdout", holdout)):
        for record in rows.tolist():
            places[starts["val"] + record] = ImageLocation(half, record)
    order = PARTS.index
    ordered = [
        sorted((places[a], places[b]), key=lambda place: (order(place.part), place.record))
        for a, b in pairs.tolist()
    ]
    return Duplicates([(first, second) for first, second in ordered], holdout)


def _kept(cache: Path, digest: str) -> Path:
    return cache / "verified" / f"duplicates-{digest}-v{_VERSION}.npz"


def _found(dataset: Dataset, cache: Path) -> Rows:
    path = _kept(cache, dataset.digest)
    if (stored := cached_arrays(path, ["pairs"])) is not None:
        return stored["pairs"]
    splits = dataset.splits.values()
    _log.info("looking for duplicates among %d images, once", sum(map(len, splits)))
    images = np.concatenate([thumbnails(split) for split in splits])
    pairs = near(hashes(images), images)
    cache_arrays(path, {"pairs": pairs})
    return pairs


def thumbnails(split: Split) -> Tiny:
    """Return the images of a split as brightness (n, 16, 16), in file order.

    A JPEG is decoded at the smallest scale that suffices.
    """

    def decoded(data: Any) -> Any:
        tiny = tf.image.resize(decode_reduced(data, (2 * SIDE, 2 * SIDE)), (SIDE, SIDE), "area")
        return tf.tensordot(tiny, tf.constant([0.299, 0.587, 0.114]), 1)

    rows = split.in_files(np.arange(len(split)))
    images = split.reader.images(split.files, rows, decoded).batch(1024)
    return np.concatenate([np.empty((0, SIDE, SIDE), np.float32), *images.as_numpy_iterator()])


def hashes(images: Tiny) -> Hashes:
    """Return the difference hash of images (n, 16, 16).

    Each bit says whether brightness rises between two cells: 64 bits across, 64 bits down.
    """
    eight, nine = _cells(8), _cells(9)
    across = np.diff(np.einsum("ij,njk,lk->nil", eight, images, nine), axis=2) > 0
    down = np.diff(np.einsum("ij,njk,lk->nil", nine, images, eight), axis=1) > 0
    bits = np.concatenate([across.reshape(len(images), 64), down.reshape(len(images), 64)], axis=1)
    packed: Hashes = np.packbits(bits, axis=1).view(np.uint64)
    return packed


def near(hashes: Hashes, images: Tiny) -> Rows:
    """Return the pairs (m, 2) with close hashes and correlated images, the smaller index first."""
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(hashes), BLOCK):
        block, rest = hashes[start : start + BLOCK, np.newaxis], hashes[np.newaxis, start:]
        apart = np.bitwise_count(block[..., 0] ^ rest[..., 0])
        apart += np.bitwise_count(block[..., 1] ^ rest[..., 1])
        one, other = np.nonzero(apart <= REACH)
        pairs.append(np.stack([one, other], axis=1)[one < other] + start)
    both = np.concatenate(pairs)
    flat = images.reshape(len(images), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(axis=1))
    product = (centred[both[:, 0]] * centred[both[:, 1]]).sum(axis=1)
    confirmed: Rows = both[product > ALIKE * lengths[both[:, 0]] * lengths[both[:, 1]]]
    return confirmed


def _cells(count: int) -> npt.NDArray[np.float32]:
    """Return the weights (count, 16) that average 16 pixels into ``count`` equal cells."""
    ends = np.linspace(0, SIDE, count + 1)
    pixels = np.arange(SIDE)
    overlap = np.minimum(ends[1:, np.newaxis], pixels + 1) - np.maximum(
        ends[:-1, np.newaxis], pixels
    )
    weights = np.maximum(overlap, 0)
    shares: npt.NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(
        np.float32
    )
    return shares


def describe(duplicates: Duplicates, examples: int = 2) -> str:
    """Describe how many pairs each two parts have in common, with some examples."""
    parts = []
    for first, second in [(a, b) for n, a in enumerate(PARTS) for b in PARTS[n:]]:
        pairs = duplicates.between(first, second)
        where = f"within {first}" if first == second else f"between {first} and {second}"
        some = ", ".join(f"{one} = {other}" for one, other in pairs[:examples])
        if pairs:
            parts.append(f"{len(pairs)} {where} ({some}{', ...' if len(pairs) > examples else ''})")
    return (
        f"pairs that are nearly the same: {'; '.join(parts)}"
        if parts
        else "no two images are nearly the same"
    )
