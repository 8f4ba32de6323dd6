"""The page about a data set, section by section: what to act upon first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from flowersweep.data.layouts.inspection import LEFT_OUT
from flowersweep.data.overview.pictures import SHEETS, Place
from flowersweep.report.images.findings import findings
from flowersweep.report.images.parts import Bar, Bars, Card, Cards, Picture
from flowersweep.report.images.view import SUSPECTS, ImagesView, Pair, place_of, shown_pairs
from flowersweep.report.page import (
    AuditList,
    Column,
    Command,
    Heading,
    Listing,
    Numbers,
    Part,
    Section,
    SideBySide,
    Table,
    Text,
)

NAMED_BARS = 12  # bars at most that have their names below them
COMMON_SIZES = 12  # rows of the table of sizes
BINS = 12  # of the chart of sizes


def introduction(view: ImagesView) -> list[Part]:
    """Return what stands above everything: how many images of how many classes there are."""
    dataset, (height, width) = view.dataset, view.dataset.image_size
    splits = ", ".join(f"{name} {len(split)}" for name, split in dataset.splits.items())
    boxes = {
        "Images": (str(sum(map(len, dataset.splits.values()))), splits),
        "Classes": (str(len(dataset.classes)), f"{dataset.classes[0]} to {dataset.classes[-1]}"),
        "Delivered at": (f"{height}x{width}", f"pixels, data.resize={dataset.resize}"),
        "Digest": (dataset.digest[:8], dataset.digest[8:]),
    }
    return [Numbers(boxes)]


def sections(view: ImagesView, where: str, command: str) -> list[Section]:
    """Return all sections of the page.

    Args:
        view: The data set.
        where: Its folder, as it may be shown.
        command: What writes the page again, as it may be shown.
    """
    return [
        Section("findings", "To do", [AuditList(findings(view))]),
        _duplicates(view),
        _labels(view),
        _passed_over(view),
        _classes(view),
        _sizes(view),
        _sheets(view),
        _reading(view, where, command),
    ]


def _duplicates(view: ImagesView) -> Section:
    note = (
        "Found by comparing small grey copies: images may differ in quality, size, shape and "
        "colours. Mirrored, rotated and most cropped copies are not found."
    )
    parts: list[Part] = [Text(note, soft=True)]
    for title, pairs in (("Across parts", view.across), ("Within a part", view.within)):
        if pairs:
            counted = Counter(" and ".join(dict.fromkeys(pair.parts)) for pair in pairs)
            counts = ", ".join(f"{count} of {parts}" for parts, count in counted.items())
            cards = [_pair(view, pair) for pair in shown_pairs(pairs)]
            parts += [
                Heading(title),
                Text(f"{len(pairs)} pairs: {counts}.{_first(len(cards), len(pairs))}"),
                Cards(cards, "wide"),
            ]
    nothing = [Text("No two images are nearly the same."), *parts]
    return Section("duplicates", "Near-duplicates", parts if view.pairs else nothing)


def _first(shown: int, count: int) -> str:
    return f" {shown} are shown, those that matter most first." if count > shown else ""


def _pair(view: ImagesView, pair: Pair) -> Card:
    images = [(pair.first, pair.labels[0]), (pair.second, pair.labels[1])]
    names = ["unlabelled" if label is None else view.dataset.classes[label] for _, label in images]
    pictures = [
        _picture(view, place_of(image), name)
        for (image, _), name in zip(images, names, strict=True)
    ]
    ids = "\n".join(f"{image.part}: {_id(view, place_of(image))}" for image, _ in images)
    if pair.disagrees:
        return Card(pictures, "", f"{names[0]} or {names[1]}?", ids)
    title = names[0] if names[0] == names[1] else " / ".join(names)
    return Card(pictures, title, "", ids)


def _picture(view: ImagesView, place: Place, name: str) -> Picture:
    return Picture(view.pictures[place], f"{name}, {_id(view, place)}")


def _id(view: ImagesView, place: Place) -> str:
    return str(view.dataset.splits[place[0]].ids[place[1]])


def _labels(view: ImagesView) -> Section:
    check = view.labels
    if isinstance(check, str):
        parts: list[Part] = [Text(check)]
        if view.check_command:
            parts.append(Command(view.check_command))
        return Section("labels", "Suspicious labels", parts)
    note = (
        f"Each of {check.images} labelled images was predicted by a logistic regression that was "
        f"fitted on others (5 folds, accuracy {check.accuracy:.3f}), on features in "
        f"{check.features}. A label is suspicious if another class is as likely as it usually is "
        "for images of that class (confident learning, Northcutt et al. 2021)."
    )
    classes = view.dataset.classes
    cards = [
        Card(
            [_picture(view, place, classes[_given(view, place)])],
            classes[_given(view, place)],
            f"rather {classes[issue.suggested]}?",
            f"{issue.given:.0%} and {issue.probability:.0%}; {place[0]}: {_id(view, place)}",
        )
        for place, issue in check.issues[:SUSPECTS]
    ]
    count = len(check.issues)
    shown = f"{count} labels are suspicious.{_first(SUSPECTS, count)}" if count else "None is."
    return Section(
        "labels", "Suspicious labels", [Text(shown), Cards(cards), Text(note, soft=True)]
    )


def _given(view: ImagesView, place: Place) -> int:
    labels = view.dataset.splits[place[0]].labels
    assert labels is not None
    return int(labels[place[1]])


def _passed_over(view: ImagesView) -> Section:
    parts: list[Part] = []
    if view.unreadable:
        parts += [
            Text(f"{len(view.unreadable)} image files cannot be read:"),
            Listing(_lines(view.unreadable, len(view.unreadable))),
        ]
    for each in view.passed_over:
        parts += [Text(f"{each.count} {each.reason}:"), Listing(_lines(each.files, each.count))]
    remote = "://" in view.dataset.dir
    nothing = "It is not known: only local folders are looked through." if remote else "Nothing."
    return Section("passed-over", "Passed over", parts or [Text(nothing, soft=True)])


def _lines(names: Sequence[str], count: int, most: int = 100) -> str:
    shown = [*names[:most]]
    more = [f"and {count - len(shown)} more"] if count > len(shown) else []
    return "\n".join([*shown, *more])


def _classes(view: ImagesView) -> Section:
    names, counts = view.dataset.classes, view.counts
    table = np.stack([*counts.values()], axis=1)  # (K, parts)
    order = np.argsort(-table.sum(axis=1), kind="stable").tolist()
    bars = [Bar(names[n], table[n].tolist()) for n in order]
    largest, smallest = bars[0], bars[-1]
    chart = Bars(
        f"images of {len(names)} classes: {largest.name} {largest.total}, {smallest.name} "
        f"{smallest.total}",
        [*counts],
        bars,
        (f"{largest.name}: {largest.total}", f"{smallest.name}: {smallest.total}"),
        named=len(bars) <= NAMED_BARS,
    )
    rows = [[bar.name, *bar.counts, bar.total] for bar in bars]
    columns = [Column("class", False), *map(Column, counts), Column("all")]
    unlabelled = [
        f"{name}: {len(split)} images without labels."
        for name, split in view.dataset.splits.items()
        if split.labels is None
    ]
    note = "val is read in two halves: tune to choose by, holdout to report results on."
    return Section(
        "classes",
        "Classes",
        [
            chart,
            Table("Images of each class, the largest first", columns, rows, tall=True),
            Text(" ".join([*unlabelled, note]), soft=True),
        ],
    )


def _sizes(view: ImagesView) -> Section:
    splits = [*view.headers]
    kinds = {name: Counter(headers.kinds.tolist()) for name, headers in view.headers.items()}
    sizes = {
        name: Counter(f"{width}x{height}" for height, width in headers.sizes.tolist())
        for name, headers in view.headers.items()
    }
    columns = [*map(Column, splits), Column("all")]
    common = _counted(sizes, splits)
    caption = "Width x height in pixels"
    if len(common) > COMMON_SIZES:
        caption += f": the {COMMON_SIZES} most frequent of {len(common)}"
    tables: list[list[Part]] = [
        [
            Table(
                "Format and mode of the files",
                [Column("kind", False), *columns],
                _counted(kinds, splits),
            )
        ],
        [Table(caption, [Column("size", False), *columns], common[:COMMON_SIZES])],
    ]
    return Section("sizes", "Sizes and formats", [*_histogram(view), SideBySide(tables)])


def _counted(counts: dict[str, Counter[str]], splits: Sequence[str]) -> list[list[str | int]]:
    """Return rows of a name and its count in each split and in all, the most frequent first."""
    total = sum(counts.values(), Counter[str]())
    ranked = sorted(total, key=lambda name: (-total[name], name))
    return [[name, *(counts[split][name] for split in splits), total[name]] for name in ranked]


def _histogram(view: ImagesView) -> list[Part]:
    """Return a chart of the short sides of the images, unless all are alike."""
    sides = {
        name: headers.sizes.min(axis=1)[headers.sizes.min(axis=1) > 0]
        for name, headers in view.headers.items()
    }
    together = np.concatenate([*sides.values()])
    if not len(together) or together.min() == together.max():
        return []
    edges = np.unique(np.geomspace(together.min(), together.max() + 1, BINS + 1).round())
    counts = [np.histogram(each, edges)[0] for each in sides.values()]
    names = [f"{int(low)} to {int(high) - 1}" for low, high in pairwise(edges)]
    bars = [
        Bar(name, column.tolist())
        for name, column in zip(names, np.stack(counts, axis=1), strict=True)
    ]
    low, middle, high = np.quantile(together, [0, 0.5, 1]).astype(int).tolist()
    label = f"short sides of the images: {low} to {high} pixels, {middle} in the middle"
    return [
        Text(f"The short sides have {low} to {high} pixels, half of them {middle} or more."),
        Bars(label, [*sides], bars, (f"{low} pixels", f"{high} pixels")),
    ]


def _sheets(view: ImagesView) -> Section:
    names, counts = view.dataset.classes, view.counts
    cards = [
        Card(
            [Picture(sheet.jpeg, f"{sheet.images} images of {names[sheet.label]}")],
            names[sheet.label],
            "",
            ", ".join(f"{part} {counts[part][sheet.label]}" for part in counts),
        )
        for sheet in view.sheets
    ]
    most = max((sheet.images for sheet in view.sheets), default=0)
    note = f"Up to {most} images of each class, evenly spaced in the order of the files."
    with_images = int((sum(counts.values(), np.zeros(len(names), int)) > 0).sum())
    if with_images > len(view.sheets):
        note += f" {SHEETS} of {with_images} classes are shown, evenly spaced too."
    return Section("images", "Images of each class", [Text(note, soft=True), Cards(cards, "wide")])


def _reading(view: ImagesView, where: str, command: str) -> Section:
    remarks = [text for text in view.dataset.remarks if not text.startswith(LEFT_OUT)]
    rows = [["folder", where], ["digest", view.dataset.digest], ["command", command]]
    table = Table("What the page is about", [Column("what", False), Column("value", False)], rows)
    return Section(
        "reading",
        "How they are read",
        [*map(Text, remarks), table],
    )
