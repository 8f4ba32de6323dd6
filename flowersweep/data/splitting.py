"""Divide images by chance and class: halves of val, and val and test from train."""

from __future__ import annotations

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
