"""What an ensemble gains over its best member.

Weights are fitted on tune in the usual ways, and each is scored on holdout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowersweep.ensemble.members import Members
from flowersweep.evaluation import ensemble, weights
from flowersweep.evaluation.scores import Reals, accuracy, macro_f1, nll
from flowersweep.evaluation.statistics import Difference, Interval, compare


@dataclass(frozen=True)
class PoolingResult:
    """One way to pool the members, fitted on tune, with its scores on holdout."""

    name: str
    pooling: str
    weights: list[float]  # with sum 1
    tune_nll: float
    nll: float
    accuracy: float
    macro_f1: float
    gain: dict[str, Difference]  # over the best member: of accuracy, macro_f1 and nll


@dataclass(frozen=True)
class EnsembleAnalysis:
    """What a study of an ensemble says: ``ways`` begins with the study's best trial."""

    members: tuple[str, ...]
    temperatures: list[float]
    single_members: list[float]  # calibrated NLL of each member on tune
    weights: list[Interval]  # of the solver's weights, over the tune images
    recalibration: float  # the temperature of the pool of the study's best trial
    pooling_results: list[PoolingResult]
    notes: tuple[str, ...] = ()  # of the soups among the members


def reference_weightings(members: Members) -> dict[str, tuple[Reals, str]]:
    """Return the usual ways to weigh the members, fitted on tune.

    Returns:
        Name -> weights (m,) with sum 1, and pooling.
    """
    count = len(members.names)
    shrunk, step = weights.shrunk_weights(members.label_probs, members.labels["tune"])
    return {
        "uniform": (np.full(count, 1 / count), "linear"),
        "best single": (np.eye(count)[members.member_nll.argmin()], "linear"),
        "solver": (weights.linear_weights(members.label_probs), "linear"),
        f"solver, {step:.0%} uniform": (shrunk, "linear"),
        "greedy": (weights.greedy_weights(members.label_probs), "linear"),
        "solver, of logits": (
            weights.geometric_weights(members.log_probs, members.labels["tune"]),
            "geometric",
        ),
    }


def analyse(members: Members, ways: dict[str, tuple[Reals, str]]) -> EnsembleAnalysis:
    """Score each way on holdout, against the member that is best on tune."""
    best = members.pool(np.eye(len(members.names))[members.member_nll.argmin()], "linear").logits(
        members.logits["holdout"]
    )
    pools = {name: members.pool(given, pooling) for name, (given, pooling) in ways.items()}
    return EnsembleAnalysis(
        members.names,
        members.temperatures.tolist(),
        members.member_nll.tolist(),
        weights.weight_intervals(members.label_probs, members.labels["tune"]),
        next(iter(pools.values())).recalibration,
        [_way(name, pool, members, best) for name, pool in pools.items()],
        members.notes,
    )


def _way(name: str, pool: ensemble.Pool, members: Members, best: Reals) -> PoolingResult:
    labels = members.labels["holdout"]
    logits = pool.logits(members.logits["holdout"])
    return PoolingResult(
        name,
        pool.pooling,
        pool.weights.tolist(),
        nll(pool.logits(members.logits["tune"]), members.labels["tune"]),
        nll(logits, labels),
        accuracy(logits, labels),
        macro_f1(logits, labels, logits.shape[1]),
        compare(logits, best, labels),
    )
