"""Whether a training has diverged although its numbers are finite."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from flowersweep.evaluation.scores import Logits

LARGEST_LOGIT = float(np.finfo(np.float16).max)  # logits are stored in half precision
# How the names of losses end, and the largest that makes sense. An NLL of 1000 nats gives the class
# of an image a probability of e^-1000; overconfident networks stay below a hundred. A training loss
# may be the user's own, on a scale of its own.
LARGEST = {"nll": 1000.0, "loss": 1e6}


def absurd_scores(metrics: Mapping[str, float]) -> str | None:
    """Name the scores that no useful network has; None if there are none.

    They are not finite, or larger than `LARGEST`.
    """
    absurd = {
        name: value
        for name, value in metrics.items()
        if not math.isfinite(value)
        or any(name.endswith(kind) and value > most for kind, most in LARGEST.items())
    }
    return ", ".join(f"{name} is {value:.4g}" for name, value in absurd.items()) or None


def unusable_logits(part: str, logits: Logits) -> str | None:
    """Say why logits (n, K) of one part cannot be stored; None if they can."""
    if not np.isfinite(logits).all():
        return f"{part} has logits that are not finite"
    largest = float(np.abs(logits).max(initial=0))
    if largest > LARGEST_LOGIT:
        return f"{part} has logits of {largest:.3g}, more than the {LARGEST_LOGIT:.0f} of float16"
    return None


def constant_prediction(logits: Mapping[str, Logits], metrics: Mapping[str, float]) -> str | None:
    """Say whether a trained network says the same of every image; None if it does not.

    It does if its logits are equal for all images. It also does if one class has the largest logit
    everywhere and tune's calibrated NLL is more than twice that of a uniform guess, log K: a
    network that is merely untrained is about as good as a guess.
    """
    rows = np.concatenate([*logits.values()])
    if len(rows) < 2:
        return None
    size = float(np.abs(rows).max())
    if float(np.ptp(rows, axis=0).max()) <= 1e-6 * size:
        return "the network has the same logits for every image"
    predicted = rows.argmax(axis=1)
    guess = math.log(rows.shape[1])
    if (predicted == predicted[0]).all() and metrics["tune/calibrated_nll"] > 2 * guess:
        return f"the network predicts class {predicted[0]} for every image, worse than a guess"
    return None
