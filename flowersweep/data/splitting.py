"""Divide images by chance and class: halves of val, val and test from train, and what an epoch
shows of rare classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def stratified_halves(labels: npt.NDArray[np.integer], seed: int) -> tuple[Rows, Rows]:
    """Split image indexes into two stratified halves, ``(tune, holdout)``, each sorted; a pure
    function of labels (n,) and ``seed``.

    Images are put in order of class, at random within a class, and dealt out in turn. So the halves
    of each class differ by at most one image, and so do the halves as a whole: classes with an odd
    count favour one and the other in turn.
    """
    chance = np.random.Generator(np.random.PCG64(seed)).random(len(labels))
    dealt = np.lexsort((chance, labels))
    return np.sort(dealt[0::2]), np.sort(dealt[1::2])


def stratified_part(
    labels: npt.NDArray[np.integer], fraction: float, seed: int
) -> tuple[Rows, Rows]:
    """Split image indexes into ``(rest, part)``, each sorted: the part has ``fraction`` of each
    class; a pure function of labels (n,) and ``seed``.

    A class that has two images gives at least one to the part, one that has six at least two, so
    that both halves of val can know it. One image of each class stays.
    """
    chance = np.random.Generator(np.random.PCG64(seed)).random(len(labels))
    chosen = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = max(round(fraction * len(rows)), min(2, len(rows) // 3), 1)
        count = min(count, len(rows) - 1)
        chosen[rows[np.argsort(chance[rows], kind="stable")[:count]]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def oversample(
    order: npt.NDArray[Any], labels: npt.NDArray[Any], at_least: int, rng: np.random.Generator
) -> npt.NDArray[Any]:
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
