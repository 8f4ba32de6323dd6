"""Halve the validation images: one half to choose by, the other to report results on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def stratified_halves(
    labels: npt.NDArray[np.integer], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split image indexes into two stratified, sorted halves: ``(tune, holdout)``.

    The images are sorted by class, at random within a class, and dealt in turn. So the halves of
    each class differ by at most one image, and so do the whole halves. The result depends only on
    the labels (n,) and ``seed``.

    Example:
        >>> tune, holdout = stratified_halves(np.array([0, 0, 1, 1, 1, 2]), seed=0)
        >>> len(tune), len(holdout)
        (3, 3)
    """
    chance = np.random.Generator(np.random.PCG64(seed)).random(len(labels))
    order = np.lexsort((chance, labels))
    return np.sort(order[0::2]), np.sort(order[1::2])
