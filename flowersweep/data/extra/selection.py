"""Choose which extra images are trained on: none that is nearly one of those held out."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowersweep.data.extra.similarity import (
    VERSION,
    Views,
    near,
    near_between,
    read_thumbnails,
)
from flowersweep.data.extra.sources import NO_CLASS, LeftOut, Source
from flowersweep.data.inventory import Inventory, Part
from flowersweep.data.readers import Rows
from flowersweep.errors import StudyError
from flowersweep.util.arrays import cache_arrays, cached_arrays
from flowersweep.util.files import write_bytes
from flowersweep.util.text import spreadsheet_cell

_log = logging.getLogger(__name__)
_NAMED = 5  # classes in one line


@dataclass(frozen=True)
class ExtraImages:
    """The extra images that are trained on, and what was left out."""

    rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))  # of train, at its end
    # (m, 2): an extra image of train, and one of the data's own that is nearly the same
    twins: Rows = field(default_factory=lambda: np.empty((0, 2), np.int64))
    counts: Mapping[str, int] = field(default_factory=dict)  # place -> images that are trained on
    left_out: tuple[LeftOut, ...] = ()
    remarks: tuple[str, ...] = ()


class Selection(NamedTuple):
    """What is chosen from all places."""

    parts: tuple[Part, ...]
    images: ExtraImages
    digest: str  # of the data with these images


def select(
    sources: Sequence[Source],
    inventory: Inventory,
    classes: Sequence[str],
    halves: npt.NDArray[np.str_],
    cache: Path,
) -> Selection:
    """Return the images of some places that are trained on.

    What is nearly the same as an image of val or test is left out. What is nearly the same as
    another training image stays.

    Args:
        sources: The places.
        inventory: The data that they add to.
        classes: Its classes.
        halves: tune or holdout (n,), of each image of val.
        cache: Folder that keeps tiny versions of the images, and which of them are alike.
    """
    parts = [(source.path, part) for source in sources for part in source.parts]
    ends = np.cumsum([len(part.records.ids) for _, part in parts])
    places = np.repeat([path for path, _ in parts], np.diff(ends, prepend=0))
    pairs = _pairs(sources, inventory, cache)
    twins = dict(_held_out_twins(pairs, inventory, halves))
    stays = np.ones(ends[-1], np.bool_)
    stays[[*twins]] = False
    left_out = [each for source in sources for each in source.left_out]
    left_out += _twins_left_out(parts, twins, classes)
    own = len(inventory.parts["train"].records.ids)
    rows = own + np.cumsum(stays) - 1  # in train
    with_train = pairs["train"][stays[pairs["train"][:, 0]]]
    alike = np.stack([rows[with_train[:, 0]], with_train[:, 1]], axis=1)
    within = stays[pairs["extra"]].all(axis=1).sum()
    counts = {source.path: int(stays[places == source.path].sum()) for source in sources}
    remarks = (*_remarks(counts, left_out), *_repeats(len(np.unique(alike[:, 0])), int(within)))
    images = ExtraImages(rows[stays], alike, counts, tuple(left_out), remarks)
    what = [inventory.digest, [source.digest for source in sources], np.flatnonzero(stays).tolist()]
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    _report(images, cache / "verified" / f"left-out-{digest}.csv")
    chosen = (
        (part, np.flatnonzero(stays[end - len(part.records.ids) : end]))
        for (_, part), end in zip(parts, ends, strict=True)
    )
    return Selection(tuple(part.take(some) for part, some in chosen if len(some)), images, digest)


def _twins_left_out(
    parts: Sequence[tuple[str, Part]],
    twins: Mapping[int, tuple[str, str]],
    classes: Sequence[str],
) -> Iterator[LeftOut]:
    """Yield the images, counted over all parts, that are nearly the same as one held out."""
    row = 0
    for path, part in parts:
        for label, id in zip(part.records.labels, part.records.ids, strict=True):
            if row in twins:
                half, twin = twins[row]
                yield LeftOut(path, f"near-duplicate of {half}", classes[label], str(id), twin)
            row += 1


def table_of(left_out: Sequence[LeftOut]) -> bytes:
    """Return a CSV file of what is not trained on."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LeftOut._fields)
    writer.writerows(map(spreadsheet_cell, each) for each in left_out)
    return text.getvalue().encode()


def _report(images: ExtraImages, file: Path) -> None:
    """Say once what is trained on and what is left out, and list that in a file."""
    if not file.exists():
        try:
            write_bytes(file, table_of(images.left_out))
        except StudyError as error:
            _log.warning("what is left out of data.extra is not listed: %s", error)
    _warn_once(f"{'; '.join(images.remarks)}. What is left out: {file}")


@lru_cache(maxsize=64)
def _warn_once(line: str) -> None:
    _log.warning("%s", line)


def _remarks(counts: Mapping[str, int], left_out: Sequence[LeftOut]) -> Iterator[str]:
    """Say of each place what is trained on and what is not."""
    for place, images in counts.items():
        reasons = Counter[str]()
        for each in left_out:
            if each.source == place:
                reasons[each.reason.partition(":")[0]] += each.images
        text = ", ".join(f"{count} ({reason})" for reason, count in reasons.items())
        names = [each.label for each in left_out if (each.source, each.reason) == (place, NO_CLASS)]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        unknown = (
            f"; classes that the data lacks: {', '.join(names[:_NAMED])}{more}" if names else ""
        )
        yield f"data.extra={place}: train gets {images} images; left out: {text or 'none'}{unknown}"


def _repeats(twins: int, within: int) -> Iterator[str]:
    """Say what is trained on although it is there twice."""
    if twins or within:
        yield (
            f"kept: {twins} extra images that are nearly the same as one of train, {within} pairs "
            "among the extra images"
        )


def _held_out_twins(
    pairs: Mapping[str, Rows], inventory: Inventory, halves: npt.NDArray[np.str_]
) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield each extra image that is nearly one of val or test: tune, holdout or test, and its id.

    Of one that is nearly several, the last is yielded last: holdout and test count more than tune.
    """
    found = [
        (int(extra), "test" if split == "test" else str(halves[other]), split, int(other))
        for split in ("val", "test")
        for extra, other in pairs.get(split, ())
    ]
    for extra, half, split, other in sorted(found, key=lambda each: each[1] != "tune"):
        yield extra, (half, str(inventory.parts[split].records.ids[other]))


def _pairs(sources: Sequence[Source], inventory: Inventory, cache: Path) -> dict[str, Rows]:
    """Return the pairs of an extra image and one of each split that are nearly the same; under
    ``extra``, those of two extra images.
    """
    names = [*inventory.parts, "extra"]
    key = _key(inventory.digest, [source.digest for source in sources])
    file = cache / "verified" / f"alike-{key}.npz"
    if (stored := cached_arrays(file, names)) is not None:
        return stored
    parts = [
        (_key(source.digest, number), part)
        for source in sources
        for number, part in enumerate(source.parts)
    ]
    count = sum(len(part.records.ids) for _, part in parts)
    _log.info("looking for near-duplicates of %d extra images, once", count)
    extra = np.concatenate([_thumbnails(part, cache, key) for key, part in parts])
    pairs = {"extra": near(extra[:, 0])}
    for name, part in inventory.parts.items():
        own = _thumbnails(part, cache, _key(inventory.digest, name))
        pairs[name] = near_between(extra, own)
    cache_arrays(file, pairs)
    return pairs


def near_val(inventory: Inventory, cache: Path) -> Rows:
    """Return which images of test are nearly the same as one of val."""
    file = cache / "verified" / f"alike-{_key(inventory.digest, 'test and val')}.npz"
    if (stored := cached_arrays(file, ["rows"])) is None:
        test, val = (
            _thumbnails(inventory.parts[name], cache, _key(inventory.digest, name))
            for name in ("test", "val")
        )
        cache_arrays(file, stored := {"rows": np.unique(near_between(test, val)[:, 0])})
    return stored["rows"]


def _thumbnails(part: Part, cache: Path, key: str) -> Views:
    """Return tiny versions of the images of a part; ``cache`` keeps them."""
    file = cache / "verified" / f"thumbnails-{key}.npz"
    if (stored := cached_arrays(file, ["images"])) is None:
        rows = np.arange(len(part.records.ids)) if part.rows is None else part.rows
        images = read_thumbnails(part.reader, part.files, rows)
        cache_arrays(file, stored := {"images": images.astype(np.float16)})
    return stored["images"].astype(np.float32)


def _key(*what: object) -> str:
    return hashlib.sha256(json.dumps([VERSION, *what]).encode()).hexdigest()[:24]
