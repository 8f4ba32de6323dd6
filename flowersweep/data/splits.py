"""Validation images are halved once: one half to tune on, the other to report on, so that no number is chosen and told on the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def stratified_halves(
    labels: npt.NDArray[np.integer], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split image indexes into two stratified halves, ``(tune, report)``, each sorted; a pure function of labels (n,) and ``seed``.

    Images are put in order of class, at random within a class, and dealt out in turn. So the halves of each class differ by at most
    one image, and so do the halves as a whole: classes with an odd count (a lone image included) favour one and the other in turn.

    Example:
        >>> tune, report = halve(np.array([0, 0, 1, 1, 1, 2]), seed=0)
        >>> len(tune), len(report)
        (3, 3)
    """
    chance = np.random.Generator(np.random.PCG64(seed)).random(len(labels))
    dealt = np.lexsort((chance, labels))
    return np.sort(dealt[0::2]), np.sort(dealt[1::2])
