"""Show images of rare classes more often, in an epoch of the same length."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Order = npt.NDArray[Any]  # whole numbers


def oversample(
    order: Order, labels: npt.NDArray[Any], at_least: int, rng: np.random.Generator
) -> Order:
    """Return an order of the same length in which each class that has images comes at least so
    often, but no more often than an even share of the length.

    More of a rare class come in the place of random images of the others, which lose none below
    their own share. The images of a class come about equally often.

    Args:
        order: Rows of images, in the order in which they are shown.
        labels: Of all images, (n,).
        at_least: Images of a class.
        rng: Decides which images come more often, and which give way.
    """
    held, shown = np.bincount(labels), np.bincount(labels[order], minlength=labels.max() + 1)
    share = min(at_least, len(order) // int(np.count_nonzero(held)))
    lacking = np.where(held > 0, np.maximum(share - shown, 0), 0)
    more = [
        np.resize(rng.permutation(np.flatnonzero(labels == label)), lacking[label])
        for label in np.flatnonzero(lacking)
    ]
    if not more:
        return order
    # places by class, at random within a class; those beyond the share may be given up
    places = np.lexsort((rng.random(len(order)), labels[order]))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(shown) - shown, shown)
    given_up = rng.permutation(places[rank >= share])[: lacking.sum()]
    changed = order.copy()
    changed[given_up] = rng.permutation(np.concatenate(more))
    return changed
