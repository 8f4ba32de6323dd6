"""How far confidence can be believed, and the temperature that corrects it (Guo et al. 2017)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowersweep.evaluation.scores import (
    Counts,
    Labels,
    Logits,
    Reals,
    nll,
    shift_logits,
)

Reals32 = npt.NDArray[np.float32]

COLDEST, HOTTEST = 0.05, 20.0
# as in Guo et al.: the error depends on their number, so that it is reported only together with it
BINS = 15


class Reliability(NamedTuple):
    """The images by confidence, in bins of equal width, each (bins,); NaN where a bin has none."""

    upper: Reals  # the bin is (upper - 1/bins, upper]
    images: Counts
    confidence: Reals  # mean probability of the predicted class
    accuracy: Reals

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017, eq. 3).

        It is the mean distance of confidence and accuracy, weighted by images.
        """
        return float(
            np.nansum(self.images * np.abs(self.accuracy - self.confidence)) / self.images.sum()
        )


def reliability(
    logits: Logits, labels: Labels, *, bins: int = BINS, temperature: float = 1.0
) -> Reliability:
    """Return how often predictions of ``logits / temperature`` are right, by how sure they are."""
    confidence = probabilities(logits, temperature).max(axis=1)
    right = logits.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count, sure, hits = (
        np.bincount(index, weights, minlength=bins) for weights in (None, confidence, right)
    )
    empty = np.where(count > 0, count, np.nan)
    return Reliability(
        np.arange(1, bins + 1) / bins, count.astype(np.int64), sure / empty, hits / empty
    )


def brier(logits: Logits, labels: Labels) -> float:
    """Return the mean squared distance of the probabilities from the truth (Brier 1950).

    It is summed over the classes: 0 to 2.
    """
    missed = probabilities(logits)
    missed[np.arange(len(labels)), labels] -= 1
    return float(np.mean(np.vecdot(missed, missed)))


def probabilities(logits: Logits, temperature: float = 1.0) -> Reals:
    """Return the softmax of ``logits / temperature``, (n, K) in float64."""
    chances: Reals = np.exp(shift_logits(logits, np.float64) / temperature)
    chances /= chances.sum(axis=1, keepdims=True)
    return chances


def temperature(logits: Logits, labels: Labels) -> float:
    """Return the T in [0.05, 20] whose ``logits / T`` have the smallest NLL.

    The NLL is convex in b = 1/T with slope E[z] - z_label and curvature Var[z] under the softmax.
    Newton's method by log b, in which it is nearer to a parabola, finds its one minimum. A step out
    of the bracket goes to its end first, where the minimum may be, then to its middle.
    """
    below = shift_logits(logits, np.float32)
    scratch = np.empty_like(below)  # fresh memory for every step would cost more than the step
    right = float(np.mean(below[np.arange(len(labels)), labels], dtype=np.float64))
    low, high, inverse = 1 / HOTTEST, 1 / COLDEST, 1.0
    tried = {inverse}
    while True:
        slope, curvature = _slope(below, scratch, right, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        end = high if slope < 0 else low
        bent = inverse * curvature + slope  # the second derivative by log b, over b
        following = inverse * math.exp(max(min(-slope / bent, 9.0), -9.0)) if bent > 0 else end
        if not low < following < high:
            following = math.sqrt(low * high) if end in tried else end
        if abs(following - inverse) <= 1e-3 * inverse:
            return 1 / following  # the error of a step is of the order of its square
        inverse = following
        tried.add(inverse)


def calibrated_nll(logits: Logits, labels: Labels) -> float:
    """Return the mean NLL in nats at the best temperature.

    It can be compared across losses that scale logits differently.
    """
    return nll(logits, labels, temperature(logits, labels))


def _slope(below: Reals32, scratch: Reals32, right: float, inverse: float) -> tuple[float, float]:
    """Return the first and second derivative of the NLL by 1/T.

    The largest logit of each image must be 0.

    float32 is enough: the largest logit adds exactly 0 to both moments, so nothing small is lost
    next to it.
    """
    weights = np.exp(np.multiply(below, np.float32(inverse), out=scratch), out=scratch)
    total = weights.sum(axis=1)
    mean = np.vecdot(weights, below) / total
    weights *= below
    square = np.vecdot(weights, below) / total
    return float(mean.mean(dtype=np.float64)) - right, float(
        np.mean(square - mean * mean, dtype=np.float64)
    )
