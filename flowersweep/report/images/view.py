"""What is known of a data set when its page is written, and what of it is shown in pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from flowersweep.data.dataset import Dataset
from flowersweep.data.duplicates import Duplicates, ImageLocation
from flowersweep.data.overview.headers import Headers
from flowersweep.data.overview.passed_over import PassedOver
from flowersweep.data.overview.pictures import Place, Sheet
from flowersweep.evaluation.label_issues import LabelIssue

PAIRS, SUSPECTS = 60, 60  # shown at most: of a kind of pairs, of suspicious labels
OFTEN = 2  # pairs that show one image, where not all pairs are shown
_HALVES = ("tune", "holdout")


@dataclass(frozen=True)
class Pair:
    """Two images that are nearly the same."""

    first: ImageLocation
    second: ImageLocation
    labels: tuple[int | None, int | None]

    @property
    def parts(self) -> tuple[str, str]:
        return self.first.part, self.second.part

    @property
    def disagrees(self) -> bool:
        """Whether both have labels, and other ones."""
        return None not in self.labels and self.labels[0] != self.labels[1]

    @property
    def leaks(self) -> bool:
        """Whether a score on one image is too good because a training sees the other."""
        return self.first.part in ("train", "tune") and self.second.part in ("holdout", "test")


@dataclass(frozen=True)
class LabelCheck:
    """What heads say of labels of images that they have not seen."""

    issues: Sequence[tuple[Place, LabelIssue]]
    images: int  # that were judged
    accuracy: float  # of the heads
    features: str  # what they were fitted on


@dataclass(frozen=True)
class ImagesView:
    """A data set as its page shows it."""

    dataset: Dataset
    headers: Mapping[str, Headers]  # by split
    pairs: Sequence[Pair]  # what matters most first
    labels: LabelCheck | str  # or why labels were not checked
    check_command: str  # after which they can be
    passed_over: Sequence[PassedOver]
    unreadable: Sequence[str]
    sheets: Sequence[Sheet] = ()
    pictures: Mapping[Place, bytes] = field(default_factory=dict)  # JPEGs

    @cached_property
    def counts(self) -> dict[str, np.ndarray]:
        """The images of each class (K,), by part: train, tune, holdout and, if labelled, test."""
        rows = {"tune": self.dataset.tune, "holdout": self.dataset.holdout}
        counts = {}
        for name, split in self.dataset.splits.items():
            for part in _HALVES if name == "val" else (name,):
                if split.labels is not None:
                    labels = split.labels[rows[part]] if part in rows else split.labels
                    counts[part] = np.bincount(labels, minlength=len(self.dataset.classes))
        return counts

    @property
    def across(self) -> list[Pair]:
        """The pairs of two parts."""
        return [pair for pair in self.pairs if pair.parts[0] != pair.parts[1]]

    @property
    def within(self) -> list[Pair]:
        """The pairs of one part."""
        return [pair for pair in self.pairs if pair.parts[0] == pair.parts[1]]

    def places(self) -> set[Place]:
        """Return the images that are shown alone or in pairs."""
        pairs = [*shown_pairs(self.across), *shown_pairs(self.within)]
        shown = {place_of(image) for pair in pairs for image in (pair.first, pair.second)}
        if not isinstance(self.labels, str):
            shown |= {place for place, _ in self.labels.issues[:SUSPECTS]}
        return shown


def place_of(image: ImageLocation) -> Place:
    """Return the split of an image, and its number in it."""
    return "val" if image.part in _HALVES else image.part, image.record


def ranked_pairs(dataset: Dataset, duplicates: Duplicates) -> list[Pair]:
    """Return pairs of near-duplicates: those that leak first, then those with two labels."""
    pairs: Iterable[Pair] = (
        Pair(first, second, (label_of(dataset, first), label_of(dataset, second)))
        for first, second in duplicates.pairs
    )
    return sorted(pairs, key=lambda pair: (not pair.leaks, not pair.disagrees))


def shown_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the first `PAIRS` of some pairs; of many, without those of images shown `OFTEN`."""
    if len(pairs) <= PAIRS:
        return [*pairs]
    shown, seen = list[Pair](), Counter[ImageLocation]()
    for pair in pairs:
        if len(shown) < PAIRS and max(seen[pair.first], seen[pair.second]) < OFTEN:
            shown.append(pair)
            seen.update([pair.first, pair.second])
    return shown


def label_of(dataset: Dataset, image: ImageLocation) -> int | None:
    """Return the class of an image; None in an unlabelled split."""
    split, row = place_of(image)
    labels = dataset.splits[split].labels
    return None if labels is None else int(labels[row])
