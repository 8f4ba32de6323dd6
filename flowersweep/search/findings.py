"""What an ensemble gains: its weights fitted on tune in the usual ways, each told on report beside the best member."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowersweep.evaluation import ensemble, weights
from flowersweep.evaluation.scores import Reals, accuracy, macro_f1, nll
from flowersweep.evaluation.statistics import Difference, Interval, compare
from flowersweep.search.members import Members


@dataclass(frozen=True)
class Way:
    """One way to pool the members, fitted on tune: its scores on report, and what they are more than those of the best member."""

    name: str
    pooling: str
    weights: list[float]  # with sum 1
    tune_nll: float
    nll: float
    accuracy: float
    macro_f1: float
    gain: dict[str, Difference]  # of accuracy, macro_f1 and nll


@dataclass(frozen=True)
class Published:
    """The grid of 100 weights between the two best members, by accuracy: told as notebooks do, and honestly."""

    members: tuple[str, str]
    grid: ensemble.Grid
    told: float  # accuracy gained over the better of the two on the images the weight was chosen by
    gain: Difference  # the same on report


@dataclass(frozen=True)
class Findings:
    """What a study of an ensemble says: ``ways`` begins with the study's best trial."""

    members: tuple[str, ...]
    temperatures: list[float]
    alone: list[float]  # calibrated NLL of each member on tune
    weights: list[Interval]  # of the solver's weights, over the tune images
    recalibration: float  # the temperature of the pool of the study's best trial
    ways: list[Way]
    published: Published


def usual_ways(members: Members) -> dict[str, tuple[Reals, str]]:
    """Return the usual ways to weigh the members, from tune: name -> weights (m,) with sum 1, and pooling."""
    count = len(members.names)
    shrunk, step = weights.shrunk_weights(members.chances, members.labels["tune"])
    return {
        "uniform": (np.full(count, 1 / count), "linear"),
        "best single": (np.eye(count)[members.alone.argmin()], "linear"),
        "solver": (weights.linear_weights(members.chances), "linear"),
        f"solver, {step:.0%} uniform": (shrunk, "linear"),
        "greedy": (weights.greedy_weights(members.chances), "linear"),
        "solver, of logits": (weights.geometric_weights(members.logs, members.labels["tune"]), "geometric"),
    }


def told(members: Members, ways: dict[str, tuple[Reals, str]]) -> Findings:
    """Score each way on report, against the member that is best on tune."""
    best = members.pool(np.eye(len(members.names))[members.alone.argmin()], "linear").logits(members.logits["report"])
    pools = {name: members.pool(given, pooling) for name, (given, pooling) in ways.items()}
    return Findings(
        members.names,
        members.temperatures.tolist(),
        members.alone.tolist(),
        weights.weight_intervals(members.chances, members.labels["tune"]),
        next(iter(pools.values())).recalibration,
        [_way(name, pool, members, best) for name, pool in pools.items()],
        _published(members),
    )


def _way(name: str, pool: ensemble.Pool, members: Members, best: Reals) -> Way:
    labels = members.labels["report"]
    logits = pool.logits(members.logits["report"])
    return Way(
        name,
        pool.pooling,
        pool.weights.tolist(),
        nll(pool.logits(members.logits["tune"]), members.labels["tune"]),
        nll(logits, labels),
        accuracy(logits, labels),
        macro_f1(logits, labels, logits.shape[1]),
        compare(logits, best, labels),
    )


def _published(members: Members) -> Published:
    one, two = (int(index) for index in np.argsort(members.alone)[:2])
    tune, report = ((members.logits[part][one], members.logits[part][two], members.labels[part]) for part in ("tune", "report"))
    grid = ensemble.published_grid(*tune)
    pooled = ensemble.mixed(report[0], report[1], grid.read)
    better = max(accuracy(logits, tune[2]) for logits in tune[:2])
    return Published(
        (members.names[one], members.names[two]), grid, grid.accuracy - better, compare(pooled, report[0], report[2])["accuracy"]
    )
