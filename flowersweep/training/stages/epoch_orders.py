"""Features in the order of each epoch, which all trials with the same seed share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

LIMIT_BYTES = 2**29  # of memory, for the whole process


class EpochOrders:
    """A bounded cache of features, by who owns them, seed and epoch.

    When it is full, the seed that was used longest ago gives way. The epochs of one seed never push
    each other out: every trial goes through all of them, so that none would ever be used again.
    """

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self.limit, self.nbytes = limit, 0
        self._groups: OrderedDict[tuple[int, int], dict[int, tuple[Any, int]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, owner: int, seed: int, epoch: int, make: Callable[[], Any], nbytes: int
    ) -> Any | None:
        """Return what ``make`` gives, from the cache if it is there; None if there is no room for
        it.
        """
        with self._lock:
            group = self._groups.setdefault((owner, seed), {})
            self._groups.move_to_end((owner, seed))
            if epoch not in group:
                self._make_room(nbytes)
                if self.nbytes + nbytes > self.limit:
                    return None
                group[epoch] = make(), nbytes
                self.nbytes += nbytes
            return group[epoch][0]

    def epochs(self, owner: int, seed: int) -> list[int]:
        """Return the epochs of a seed that are there."""
        return sorted(self._groups.get((owner, seed), {}))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._groups.clear()
            self.nbytes = 0

    def _make_room(self, nbytes: int) -> None:
        while self.nbytes + nbytes > self.limit and len(self._groups) > 1:
            _, oldest = self._groups.popitem(last=False)
            self.nbytes -= sum(size for _, size in oldest.values())


EPOCH_ORDERS = EpochOrders()  # of this process
