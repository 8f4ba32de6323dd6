"""What to do about a data set before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from flowersweep.data.readers import RecordReader
from flowersweep.data.records import declared_count
from flowersweep.report.checks.audit import AuditItem
from flowersweep.report.images.view import ImagesView

FEW = 5  # training images of a class, from which on nothing is said
UNEVEN = 10  # times as many images in the largest class as in the smallest
NAMED = 8  # names in a sentence


def findings(view: ImagesView) -> list[AuditItem]:
    """Return what is wrong or doubtful, warnings first."""
    items = [
        *_pairs(view),
        *_labels(view),
        *_files(view),
        *_classes(view),
        *_sizes(view),
        *_ids(view),
    ]
    return sorted(items, key=lambda item: item.kind != "warning")


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Write some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _pairs(view: ImagesView) -> Iterator[AuditItem]:
    leaks = {pair.second for pair in view.pairs if pair.leaks}
    twofold = [pair for pair in view.pairs if pair.disagrees]
    if leaks:
        yield AuditItem(
            "warning",
            f"{_are(len(leaks))} nearly the same as one of train or tune",
            "Scores on them are too good. Remove one of each pair, or bring both into one split.",
        )
    if twofold:
        yield AuditItem(
            "warning",
            f"{len(twofold)} pairs of nearly the same picture have two labels",
            "At least one label of each is wrong. They are marked among the near-duplicates.",
        )
    if not view.pairs:
        yield AuditItem(
            "note", "No two images are nearly the same", "By comparing small grey copies."
        )


def _are(count: int) -> str:
    return f"{count} image{'s' * (count > 1)} of holdout or test {'is' if count == 1 else 'are'}"


def _labels(view: ImagesView) -> Iterator[AuditItem]:
    check = view.labels
    if isinstance(check, str):
        text = "Suspicious labels says why, and what to do."
        yield AuditItem("note", "Labels were not checked", text)
    elif check.issues:
        yield AuditItem(
            "warning",
            f"{len(check.issues)} of {check.images} labels are suspicious",
            "Look at them, the surest first, and mend those that are wrong. Not all are: images "
            "that are hard to tell are among them.",
        )
    else:
        yield AuditItem("note", f"None of {check.images} labels is suspicious", "")


def _files(view: ImagesView) -> Iterator[AuditItem]:
    if view.unreadable:
        yield AuditItem(
            "warning",
            f"{len(view.unreadable)} image files cannot be read and are left out",
            "They are listed under Passed over. Copy them again.",
        )
    if images := sum(each.count for each in view.passed_over if each.reason.startswith("images")):
        yield AuditItem(
            "warning",
            f"{images} image files in the folder are not used",
            "They are listed under Passed over.",
        )
    unnumbered = [
        file
        for split in view.dataset.splits.values()
        for file in (split.files if isinstance(split.reader, RecordReader) else ())
        if declared_count(file) is None
    ]
    if unnumbered:
        yield AuditItem(
            "note",
            f"{len(unnumbered)} files do not say in their name how many records they hold",
            "One that was cut between two records would not be noticed.",
        )


def _classes(view: ImagesView) -> Iterator[AuditItem]:
    names = np.array(view.dataset.classes, object)
    train, held = view.counts["train"], view.counts["tune"] + view.counts["holdout"]
    if (train == 0).any():
        text = f"Nothing can learn them: {listed(names[train == 0].tolist())}."
        yield AuditItem("warning", f"{_of(train == 0)} classes have no image in train", text)
    few = (train > 0) & (train < FEW)
    if few.any():
        counted = [f"{name} {count}" for name, count in zip(names[few], train[few], strict=True)]
        title = f"{_of(few)} classes have fewer than {FEW} training images"
        yield AuditItem("warning", title, f"{listed(counted)}.")
    if (held == 0).any():
        text = f"How well they are recognised is not measured: {listed(names[held == 0].tolist())}."
        yield AuditItem("warning", f"{_of(held == 0)} classes have no image in val", text)
    largest, smallest = int(train.argmax()), int(np.where(train > 0, train, np.inf).argmin())
    if train[largest] >= UNEVEN * train[smallest] > 0:
        text = (
            f"{names[largest]} has {train[largest]} training images, {names[smallest]} "
            f"{train[smallest]}. Macro F1 counts all classes alike."
        )
        yield AuditItem("note", "The classes differ much in size", text)


def _of(mask: np.ndarray) -> str:
    return f"{mask.sum()} of {len(mask)}"


def _sizes(view: ImagesView) -> Iterator[AuditItem]:
    sizes = np.concatenate([headers.sizes for headers in view.headers.values()])
    height, width = view.dataset.image_size
    small = ((sizes < (height, width)).any(axis=1) & (sizes > 0).all(axis=1)).sum()
    if small:
        text = "data.image_size=PIXELS sets another size."
        title = f"{small} of {len(sizes)} images are smaller than {height}x{width} and are enlarged"
        yield AuditItem("note", title, text)
    formats = {
        name: {kind.partition(" ")[0] for kind in np.unique(headers.kinds).tolist()}
        for name, headers in view.headers.items()
    }
    for name in formats.keys() - {"train"}:
        if other := sorted(formats[name] - formats["train"]):
            title = f"{name} has images of a format that train has not: {', '.join(other)}"
            yield AuditItem("note", title, "A network may tell formats by their artefacts.")


def _ids(view: ImagesView) -> Iterator[AuditItem]:
    for name, split in view.dataset.splits.items():
        unique, counts = np.unique(split.ids, return_counts=True)
        if (counts > 1).any():
            text = f"First {unique[counts > 1][0]}. They may be the same images."
            title = f"{(counts > 1).sum()} ids occur more than once in {name}"
            yield AuditItem("warning", title, text)
