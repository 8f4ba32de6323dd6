"""How sure a score is: intervals by the bootstrap."""

from __future__ import annotations

import numpy as np

from flowersweep.evaluation.scores import macro_f1


def macro_f1_interval(
    predicted: np.ndarray, labels: np.ndarray, classes: int, *, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the macro F1 (Efron & Tibshirani 1993, ch. 13), resampling within each class.

    ``predicted`` and ``labels`` int (n,). It says how the score varies with the images, not with the seed of a training.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=classes)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    sizes = np.repeat(counts, counts)
    scores = []
    for _ in range(samples):
        rows = order[starts + (rng.random(len(labels)) * sizes).astype(int)]
        scores.append(macro_f1(np.eye(classes, dtype=np.float32)[predicted[rows]], labels[rows], classes))
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)
