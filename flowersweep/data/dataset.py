"""A verified data set: splits, class names, a digest and the two halves of val."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowersweep.config.schema import Data
from flowersweep.data.classes import read_classes
from flowersweep.data.decoded import NOTHING, ImageCacheLimits
from flowersweep.data.folders import find_files, find_folder
from flowersweep.data.images import Size, describe_notes
from flowersweep.data.inventory import Inventory, take_inventory
from flowersweep.data.verify import Records, check_labels
from flowersweep.errors import DataError

_log = logging.getLogger(__name__)
_LISTED = 10  # class names in an error message


@dataclass(frozen=True)
class Split:
    """The files, labels and ids of one split; no image is decoded yet."""

    name: str  # train, val, test
    files: tuple[str, ...]  # sorted
    labels: npt.NDArray[np.int32] | None  # (n,), file order; None for test, which is unlabelled
    ids: npt.NDArray[np.str_]  # (n,), file order
    counts: tuple[int, ...] = ()  # records in each file
    share: tuple[int, int] = (0, 1)  # host index, host count: each decodes its part of a batch
    budget: ImageCacheLimits = NOTHING  # for the cache of decoded images

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Dataset:
    """A verified data set; val is read in two disjoint halves, ``tune`` to choose by and
    ``holdout`` to report results on.
    """

    name: str
    dir: str
    classes: tuple[str, ...]
    image_size: Size  # height, width of the delivered images
    digest: str  # 16 hex digits of the sha256 over file names and contents
    splits: dict[str, Split]  # train, val, and test if there
    tune: npt.NDArray[np.int64]  # indexes into val, sorted
    holdout: npt.NDArray[np.int64]  # the other indexes into val, sorted
    remarks: tuple[str, ...] = ()  # what is done to the images before they are delivered

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
    folder = find_folder(data, cache, trusted)
    files = find_files(folder)
    inventory = take_inventory(files, cache)
    names = read_classes(data.classes, folder)
    for split in ("train", "val"):
        check_labels(files[split], inventory.splits[split], None if names is None else len(names))
    classes = names or _numbered(inventory)
    if not data.allow_missing_classes:
        _check_every_class_is_trained(classes, inventory.splits["train"].labels)
    size = _delivered_size(data, inventory.splits["train"])
    remarks = tuple(_remarks(inventory, size))
    decoded, digest = cache / "decoded", inventory.digest
    tune, holdout = stratified_halves(inventory.splits["val"].labels, data.split_seed)
    dataset = Dataset(
        name=data.name,
        dir=folder,
        classes=classes,
        image_size=size,
        digest=digest,
        splits={
            name: _split(
                name,
                files[name],
                records,
                share,
                ImageCacheLimits(
                    data.cache_bytes, data.disk_cache_bytes, decoded / f"{digest}-{name}"
                ),
            )
            for name, records in inventory.splits.items()
        },
        tune=tune,
        holdout=holdout,
        remarks=remarks,
    )
    return dataset if data.train_on == "train" else train_on_all(dataset)


def train_on_all(dataset: Dataset) -> Dataset:
    """Return the data set with the images of val after those of train in its split train."""
    train, val = dataset.splits["train"], dataset.splits["val"]
    assert train.labels is not None
    assert val.labels is not None
    joined = replace(
        train,
        files=train.files + val.files,
        labels=np.concatenate([train.labels, val.labels]),
        ids=np.concatenate([train.ids, val.ids]),
        counts=train.counts + val.counts,
        budget=replace(
            train.budget,
            path=train.budget.path and train.budget.path.with_name(f"{dataset.digest}-all"),
        ),
    )
    return replace(dataset, splits={**dataset.splits, "train": joined})


def stratified_halves(
    labels: npt.NDArray[np.integer], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split image indexes into two stratified halves, ``(tune, holdout)``, each sorted; a pure
    function of labels (n,) and ``seed``.

    Images are put in order of class, at random within a class, and dealt out in turn. So the halves
    of each class differ by at most one image, and so do the halves as a whole: classes with an odd
    count favour one and the other in turn.
    """
    chance = np.random.Generator(np.random.PCG64(seed)).random(len(labels))
    dealt = np.lexsort((chance, labels))
    return np.sort(dealt[0::2]), np.sort(dealt[1::2])


def _split(
    name: str,
    files: tuple[str, ...],
    records: Records,
    share: tuple[int, int],
    budget: ImageCacheLimits,
) -> Split:
    labels = None if name == "test" else records.labels.astype(np.int32)
    return Split(name, files, labels, records.ids, tuple(map(int, records.counts)), share, budget)


def _delivered_size(data: Data, train: Records) -> Size:
    """Return ``data.image_size``, else the size of most training images.

    Where no size is that of at least half of them, it is a square: its side is the median of their
    short sides.
    """
    if data.image_size is not None:
        if data.image_size < 1:
            raise DataError(
                f"data.image_size={data.image_size} must be 1 or more pixels, or null for the size "
                "of most images."
            )
        return data.image_size, data.image_size
    sizes, counts = np.unique(train.sizes, axis=0, return_counts=True)
    if len(sizes) == 1 or 2 * counts.max() >= len(train.sizes):
        height, width = sizes[counts.argmax()].tolist()
    else:
        height = width = int(np.median(train.sizes.min(axis=1)))
    if len(sizes) > 1:
        _log.warning(
            "train: images of %d sizes; all are resized to %dx%d pixels, whatever their shape. "
            "data.image_size=PIXELS sets another size",
            len(sizes),
            height,
            width,
        )
    return height, width


def _remarks(inventory: Inventory, size: Size) -> Iterator[str]:
    """Say how many images of each split are not delivered as they are stored."""
    for name, records in inventory.splits.items():
        other = (records.sizes != size).any(axis=1)
        if other.any():
            sizes = len(np.unique(records.sizes, axis=0))
            yield (
                f"{name}: {other.sum()} of {len(other)} images (of {sizes} "
                f"{'sizes' if sizes > 1 else 'size'}) are resized to {size[0]}x{size[1]} pixels, "
                "whatever their shape"
            )
        yield from (f"{name}: {remark}" for remark in describe_notes(records.notes))


def _numbered(inventory: Inventory) -> tuple[str, ...]:
    largest = max(int(inventory.splits[name].labels.max()) for name in ("train", "val"))
    return tuple(f"class {number}" for number in range(largest + 1))


def _check_every_class_is_trained(classes: tuple[str, ...], labels: npt.NDArray[np.int64]) -> None:
    untrained = np.setdiff1d(np.arange(len(classes)), labels)
    if untrained.size:
        examples = ", ".join(f"{index} ({classes[index]})" for index in untrained[:_LISTED])
        more = f" and {untrained.size - _LISTED} more" if untrained.size > _LISTED else ""
        raise DataError(
            f"{untrained.size} of {len(classes)} classes have no image in train: {examples}{more}."
            " Add images, mend data.classes, or set data.allow_missing_classes=true to train "
            "without them."
        )
