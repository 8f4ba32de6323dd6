"""What was made for the trials of each backbone, as long as there is memory for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import psutil

from flowersweep.models.classifier import Classifier
from flowersweep.runtime import device_bytes
from flowersweep.training.stages.stage import SharedArrays, Stage

# of the memory where features lie: what the backbones of a sweep may hold together
MEMORY_SHARE = 0.25


@dataclass
class BackboneEntry:
    """What was made for the trials of one backbone on the same images."""

    used: int = 0  # when it was last used; a larger number is later
    classifier: Classifier | None = None
    shared: dict[bool, SharedArrays] = field(default_factory=dict)  # with and without features
    stages: dict[str, Stage] = field(default_factory=dict)  # by compile group

    @property
    def nbytes(self) -> int:
        """The bytes of weights and features."""
        weights = 4 * self.classifier.model.count_params() if self.classifier else 0
        features = self.shared.get(True)
        arrays = [*features.train, *features.features.values()] if features else []
        return int(weights + sum(array.nbytes for array in arrays))


class BackboneCache:
    """Keeps the backbones of a sweep while they hold no more than ``limit`` bytes together."""

    def __init__(self) -> None:
        self.limit = int(MEMORY_SHARE * (device_bytes() or psutil.virtual_memory().total))
        self.entries: dict[str, BackboneEntry] = {}
        self._uses = count()

    def get(self, key: str) -> BackboneEntry:
        """Return what there is of a backbone, which may be nothing."""
        entry = self.entries.setdefault(key, BackboneEntry())
        entry.used = next(self._uses)
        return entry

    def make_room(self) -> None:
        """Forget the backbones that were used longest ago, but never the last one.

        A trial that still trains on one of them keeps it.
        """
        held = sum(entry.nbytes for entry in self.entries.values())
        for key, entry in sorted(self.entries.items(), key=lambda item: item[1].used)[:-1]:
            if held <= self.limit:
                return
            held -= entry.nbytes
            self.entries.pop(key, None)
