"""How far confidence can be believed: one temperature, fitted on held-out logits (Guo et al. 2017)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from flowersweep.evaluation.scores import Labels, Logits, nll

COLDEST, HOTTEST = 0.05, 20.0


def temperature(logits: Logits, labels: Labels) -> float:
    """Return the T in [0.05, 20] whose ``logits / T`` have the smallest NLL.

    The NLL is convex in b = 1/T with slope E[z] - z_label and curvature Var[z] under the softmax, so Newton's method
    finds its one minimum; a bracket catches the steps that the flat ends would throw too far.
    """
    below = logits.astype(np.float32)
    below -= below.max(axis=1, keepdims=True)
    right = float(np.mean(below[np.arange(len(labels)), labels], dtype=np.float64))
    low, high, inverse = 1 / HOTTEST, 1 / COLDEST, 1.0
    if _slope(below, right, low)[0] >= 0:
        return HOTTEST
    if _slope(below, right, high)[0] <= 0:
        return COLDEST
    for _ in range(50):
        slope, curvature = _slope(below, right, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        newton = inverse - slope / curvature if curvature > 0 else math.inf
        following = newton if low < newton < high else math.sqrt(low * high)
        if abs(following - inverse) <= 1e-6 * inverse:
            return 1 / following
        inverse = following
    return 1 / inverse


def calibrated_nll(logits: Logits, labels: Labels) -> float:
    """Return the mean NLL in nats at the best temperature: comparable across losses that scale logits differently."""
    return nll(logits.astype(np.float64) / temperature(logits, labels), labels)


def _slope(below: npt.NDArray[np.float32], right: float, inverse: float) -> tuple[float, float]:
    """Return the first and second derivative of the NLL by 1/T, for logits from which their largest was taken.

    float32 is enough: the largest logit adds exactly 0 to both moments, so nothing small is lost beside it.
    """
    weights = np.exp(np.float32(inverse) * below)
    total = weights.sum(axis=1)
    weights *= below
    mean = weights.sum(axis=1) / total
    square = np.einsum("nk,nk->n", weights, below) / total
    return float(mean.mean(dtype=np.float64)) - right, float(np.mean(square - mean * mean, dtype=np.float64))
