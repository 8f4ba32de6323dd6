"""Pool the predictions of several models.

Each member first gets a temperature of its own. Otherwise the most confident would outvote the
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flowersweep.evaluation.calibration import probabilities, temperature
from flowersweep.evaluation.scores import Labels, Logits, Reals
from flowersweep.evaluation.weights import SMALLEST

POOLINGS = ("linear", "geometric")


@dataclass(frozen=True)
class Pool:
    """How members are put together, each at its temperature."""

    pooling: str  # of probabilities (linear) or of logits (geometric)
    temperatures: Reals  # (m,), of the members
    weights: Reals  # (m,), at least 0, with sum 1
    recalibration: float = 1.0  # the temperature of what comes out

    def logits(self, members: Sequence[Logits]) -> Reals:
        """Return the logarithms of the pooled probabilities (n, K), up to a constant an image.

        Args:
            members: Logits (n, K) of each member.
        """
        return (
            _pooled(self.pooling, calibrated_log_probs(members, self.temperatures), self.weights)
            / self.recalibration
        )

    def calibration(self) -> dict[str, float | list[float]]:
        """Return the temperatures as plain data."""
        return {
            "temperature": self.recalibration,
            "member_temperatures": self.temperatures.tolist(),
        }


def pool(
    members: Sequence[Logits],
    labels: Labels,
    weights: Sequence[float] | Reals,
    *,
    pooling: str = "linear",
) -> Pool:
    """Return a pool with these relative weights, whose temperatures are fitted to these images.

    An average of calibrated members is not calibrated itself: it is unsure where they disagree
    (Rahaman & Thiery 2021).

    Raises:
        ValueError: A weight is negative, or all are 0.
    """
    given = np.asarray(weights, float)
    if (given < 0).any() or not given.sum() > 0:
        raise ValueError(f"weights must be at least 0, and not all 0; they are {given.tolist()}")
    temperatures = np.array([temperature(each, labels) for each in members])
    plain = Pool(pooling, temperatures, given / given.sum())
    return Pool(pooling, temperatures, plain.weights, temperature(plain.logits(members), labels))


def mean_pool(pools: Sequence[Pool]) -> Pool:
    """Return one pool in place of pools whose members differ by their seeds alone.

    Each temperature is the geometric mean.
    """
    temperatures = np.exp(np.mean([np.log(pool.temperatures) for pool in pools], axis=0))
    recalibration = float(np.exp(np.mean([np.log(pool.recalibration) for pool in pools])))
    return replace(pools[0], temperatures=temperatures, recalibration=recalibration)


def calibrated_log_probs(members: Sequence[Logits], temperatures: Reals) -> Reals:
    """Return the log-probabilities of every member at its own temperature, (m, n, K)."""
    chances = np.stack(
        [probabilities(each, float(own)) for each, own in zip(members, temperatures, strict=True)]
    )
    logs: Reals = np.log(np.maximum(chances, SMALLEST))
    return logs


def _pooled(pooling: str, logs: Reals, weights: Reals) -> Reals:
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling!r}: must be one of {', '.join(POOLINGS)}")
    together: Reals = np.tensordot(weights, np.exp(logs) if pooling == "linear" else logs, 1)
    return np.log(together) if pooling == "linear" else together
