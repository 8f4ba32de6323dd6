"""A verified data set: splits, class names, a digest and the two halves of val."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowersweep.config.schema import Data
from flowersweep.data.decoded import NOTHING, ImageCacheLimits
from flowersweep.data.extra.joined import FileGroup, join_readers
from flowersweep.data.extra.selection import ExtraImages, Selection, select
from flowersweep.data.extra.sources import read_source, require_places
from flowersweep.data.images import NOTHING_KNOWN, Known, Note, Size, describe_notes
from flowersweep.data.inventory import Inventory, Part, take_inventory
from flowersweep.data.places import find_folder
from flowersweep.data.readers import Reader, RecordReader, Rows
from flowersweep.data.records import FileFingerprint
from flowersweep.data.splitting import stratified_halves
from flowersweep.data.verify import Records
from flowersweep.errors import DataError
from flowersweep.util.text import quantity

_log = logging.getLogger(__name__)
_LISTED = 10  # class names in an error message
# pixels. The usual backbones were trained at 224; twice the side costs four times the work. So
# photographs get this side unless data.image_size says another.
USUAL_SIDE = 224
LARGEST_SIDE = 512  # images up to this side, if most have one size, keep it
_RESIZED = {
    "stretch": "whatever their shape",
    "crop": "of which only the centre is seen",
    "pad": "with black at the edges",
}


@dataclass(frozen=True)
class Split:
    """The files, labels and ids of one split; no image is decoded yet.

    Its images are numbered in file order; ``rows`` says which of the files' images they are.
    """

    name: str  # train, val, test
    files: tuple[str, ...]  # sorted
    labels: npt.NDArray[np.int32] | None  # (n,), file order; None: unlabelled, as test may be
    ids: npt.NDArray[np.str_]  # (n,), file order
    counts: tuple[int, ...] = ()  # images in each file
    share: tuple[int, int] = (0, 1)  # host index, host count: each decodes its part of a batch
    budget: ImageCacheLimits = NOTHING  # for the cache of decoded images
    reader: Reader = RecordReader()  # noqa: RUF009 - it is immutable
    rows: Rows | None = None  # (n,): which of the files' images, ascending; None: all of them
    resize: str = "stretch"  # what is done to an image of another shape
    known: Known = NOTHING_KNOWN  # of all of its images

    def __len__(self) -> int:
        return len(self.ids)

    def fingerprints(self) -> tuple[FileFingerprint, ...]:
        """Return what identifies this version of the files."""
        return self.reader.fingerprints(self.files)

    def in_files(self, rows: Rows) -> Rows:
        """Return which images of the files these images of the split are."""
        return rows if self.rows is None else self.rows[rows]

    def in_split(self, rows: Rows) -> Rows:
        """Return which images of the split these images of the files are, without the others."""
        if self.rows is None:
            return rows
        places = np.full(sum(self.counts), -1)
        places[self.rows] = np.arange(len(self.rows))
        inside = places[rows]
        return inside[inside >= 0]


@dataclass(frozen=True)
class Dataset:
    """A verified data set; val is read in two disjoint halves, ``tune`` to choose by and
    ``holdout`` to report results on.
    """

    name: str
    dir: str
    classes: tuple[str, ...]
    image_size: Size  # height, width of the delivered images
    digest: str  # 16 hex digits of a sha256 over names, labels and contents
    splits: dict[str, Split]  # train, val, and test if there
    tune: npt.NDArray[np.int64]  # indexes into val, sorted
    holdout: npt.NDArray[np.int64]  # the other indexes into val, sorted
    remarks: tuple[str, ...] = ()  # what is done to the images before they are delivered
    resize: str = "stretch"  # what is done to an image of another shape
    cut: tuple[str, ...] = ()  # splits that were cut from train
    extra: ExtraImages = field(default_factory=ExtraImages)  # which images of train, and the others
    held_out_digest: str = ""  # the digest without extra images: tune, holdout and test are these

    @property
    def resize_suffix(self) -> str:
        """What the name of a file of features or pixels ends with."""
        return "" if self.resize == "stretch" else f"-{self.resize}"

    @property
    def delivered(self) -> str:
        """What the images are known by as they are delivered: digest, size, and how resized."""
        return f"{self.digest}-{self.image_size[0]}x{self.image_size[1]}{self.resize_suffix}"

    @property
    def class_names(self) -> str:
        """The classes in short, which two data sets share if they have the same names in the same
        order: ``104 classes, rose to iris, 1f2e3d4c``.
        """
        digest = hashlib.sha256("\n".join(self.classes).encode()).hexdigest()[:8]
        return f"{len(self.classes)} classes, {self.classes[0]} to {self.classes[-1]}, {digest}"


def open_dataset(
    data: Data, cache: Path, *, trusted: Iterable[str] = (), share: tuple[int, int] = (0, 1)
) -> Dataset:
    """Find, verify and describe a data set.

    Args:
        data: The configured data.
        cache: Folder that keeps the result of the verification until a file changes.
        trusted: Modules that ``data.fetch`` may name besides this package's own.
        share: Index of this host, and number of hosts.

    Example:
        >>> data = Data(name="mine", dir="photographs/tfrecords")
        >>> dataset = open_dataset(data, Path("mlruns/cache"))  # doctest: +SKIP

    Raises:
        DataError: The folder, a file, a record or a label is invalid, or a class has no training
            image.
    """
    require_places(data.extra)
    folder = find_folder(data, cache, trusted)
    inventory = take_inventory(data, folder, cache)
    train = inventory.parts["train"].records
    classes = inventory.classes or _numbered(inventory)
    tune, holdout = stratified_halves(inventory.parts["val"].records.labels, data.split_seed)
    more, extra, digest = _select_extra(data, inventory, classes, tune, cache)
    labels = np.concatenate([train.labels, *(part.records.labels for part in more)])
    _check_classes(classes, labels, allow_missing=data.allow_missing_classes)
    size = _delivered_size(data, train)
    parts = [*inventory.parts.items(), *(("extra", part) for part in more)]
    dataset = Dataset(
        name=data.name,
        dir=folder,
        classes=classes,
        image_size=size,
        digest=digest,
        splits={},
        tune=tune,
        holdout=holdout,
        remarks=(*inventory.remarks, *_remarks(data, parts, size), *extra.remarks),
        resize=data.resize,
        cut=inventory.cut,
        extra=extra,
        held_out_digest=inventory.digest,
    )
    limits = ImageCacheLimits(data.cache_bytes, data.disk_cache_bytes)
    for name, part in inventory.parts.items():
        path = cache / "decoded" / f"{dataset.digest}-{name}{dataset.resize_suffix}"
        budget = replace(limits, path=path)
        dataset.splits[name] = _join(
            [
                _split(name, each, share, budget, data.resize)
                for each in (part, *(more if name == "train" else ()))
            ]
        )
    return dataset if data.train_on == "train" else train_on_all(dataset)


def _select_extra(
    data: Data, inventory: Inventory, classes: tuple[str, ...], tune: Rows, cache: Path
) -> Selection:
    """Return the images of ``data.extra`` that are trained on."""
    if not data.extra:
        return Selection((), ExtraImages(), inventory.digest)
    halves = np.full(len(inventory.parts["val"].records.ids), "holdout")
    halves[tune] = "tune"
    sources = [read_source(path, data, classes, cache) for path in data.extra]
    return select(sources, inventory, classes, halves, cache)


def train_on_all(dataset: Dataset) -> Dataset:
    """Return the data set with the images of val after those of train in its split train."""
    joined = _join([dataset.splits["train"], dataset.splits["val"]])
    path = joined.budget.path
    path = path and path.with_name(f"{dataset.digest}-all{dataset.resize_suffix}")
    joined = replace(joined, budget=replace(joined.budget, path=path))
    return replace(dataset, splits={**dataset.splits, "train": joined}, cut=())


def _join(splits: Sequence[Split]) -> Split:
    """Return labelled splits as one, which is called as the first."""
    if len(splits) == 1:
        return splits[0]
    counts = [sum(split.counts) for split in splits]
    rows = None
    if any(split.rows is not None for split in splits):
        starts = np.cumsum([0, *counts[:-1]])
        rows = np.concatenate(
            [s.in_files(np.arange(len(s))) + start for s, start in zip(splits, starts, strict=True)]
        )
    groups = [
        FileGroup(split.reader, len(split.files), count)
        for split, count in zip(splits, counts, strict=True)
    ]
    return replace(
        splits[0],
        files=tuple(chain.from_iterable(split.files for split in splits)),
        labels=np.concatenate([split.labels for split in splits if split.labels is not None]),
        ids=np.concatenate([split.ids for split in splits]),
        counts=tuple(chain.from_iterable(split.counts for split in splits)),
        rows=rows,
        reader=join_readers(groups),
        known=splits[0].known if len({split.known for split in splits}) == 1 else NOTHING_KNOWN,
    )


def _split(
    name: str, part: Part, share: tuple[int, int], budget: ImageCacheLimits, resize: str
) -> Split:
    records = part.records
    return Split(
        name,
        part.files,
        records.labels.astype(np.int32) if (records.labels >= 0).any() else None,
        records.ids,
        tuple(map(int, records.counts)),
        share,
        budget,
        part.reader,
        part.rows,
        resize,
        _known(records),
    )


def _known(records: Records) -> Known:
    sizes = np.unique(records.sizes, axis=0).tolist()
    plain = bool((records.notes & Note.PLAIN).all())
    return Known((sizes[0][0], sizes[0][1]) if len(sizes) == 1 else None, plain)


def _delivered_size(data: Data, train: Records) -> Size:
    """Return ``data.image_size``, else the size of at least half of the training images.

    Where there is no such size, or a side of it is longer than `LARGEST_SIDE`, it is a square: its
    side is the median of their short sides, and at most `USUAL_SIDE`.
    """
    if data.image_size is not None:
        if data.image_size < 1:
            raise DataError(
                f"data.image_size={data.image_size} must be 1 or more pixels, or null for the size "
                "of most images."
            )
        return data.image_size, data.image_size
    sizes, counts = np.unique(train.sizes, axis=0, return_counts=True)
    height, width = sizes[counts.argmax()].tolist()
    if 2 * counts.max() < len(train.sizes) or max(height, width) > LARGEST_SIDE:
        height = width = min(int(np.median(train.sizes.min(axis=1))), USUAL_SIDE)
    if len(sizes) > 1:
        _log.warning(
            "train: images of %d sizes; all are resized to %dx%d pixels, %s. "
            "data.image_size=PIXELS sets another size",
            len(sizes),
            height,
            width,
            _RESIZED[data.resize],
        )
    return height, width


def _remarks(data: Data, parts: Iterable[tuple[str, Part]], size: Size) -> Iterator[str]:
    """Say how many images of each split are not delivered as they are stored."""
    for name, part in parts:
        records = part.records
        other = (records.sizes != size).any(axis=1)
        if other.any():
            sizes = quantity(len(np.unique(records.sizes, axis=0)), "size")
            yield (
                f"{name}: {other.sum()} of {quantity(len(other), 'image')} (of {sizes}) resized to "
                f"{size[0]}x{size[1]} pixels, {_RESIZED[data.resize]}"
            )
        yield from (f"{name}: {remark}" for remark in describe_notes(records.notes))


def _numbered(inventory: Inventory) -> tuple[str, ...]:
    largest = max(int(part.records.labels.max()) for part in inventory.parts.values())
    return tuple(f"class {number}" for number in range(largest + 1))


def _check_classes(
    classes: tuple[str, ...], labels: npt.NDArray[np.integer], *, allow_missing: bool
) -> None:
    if len(classes) < 2:
        raise DataError(
            f"there is one class, {classes[0]!r}: nothing can be told from it. Add images of "
            "another class."
        )
    untrained = np.setdiff1d(np.arange(len(classes)), labels)
    if untrained.size and not allow_missing:
        examples = ", ".join(f"{index} ({classes[index]})" for index in untrained[:_LISTED])
        more = f" and {untrained.size - _LISTED} more" if untrained.size > _LISTED else ""
        raise DataError(
            f"{untrained.size} of {len(classes)} classes without an image in train: {examples}"
            f"{more}. Add images, mend data.classes, or set data.allow_missing_classes=true to "
            "train without them."
        )
