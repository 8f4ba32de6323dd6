"""Find images that are in the data twice, exactly or nearly, so that leaks into holdout are known.

What is nearly the same, `flowersweep.data.extra.similarity` says.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset, Split, open_dataset
from flowersweep.data.extra.similarity import Tiny, near, read_thumbnails
from flowersweep.errors import FlowersweepError
from flowersweep.util.arrays import cache_arrays, cached_arrays

_log = logging.getLogger(__name__)

_VERSION = 3

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
    pairs = near(images)
    cache_arrays(path, {"pairs": pairs})
    return pairs


def thumbnails(split: Split) -> Tiny:
    """Return the images of a split as brightness (n, 16, 16), in file order."""
    return read_thumbnails(split.reader, split.files, split.in_files(np.arange(len(split))))[:, 0]


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
