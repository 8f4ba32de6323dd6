"""Which pairs of parameters work together: what the objective does beyond the sum of both."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from flowersweep.report.study_view import StudyView
from flowersweep.study.records import TrialRecord

FEWEST = 24  # trials in which both are active
GROUPS = 3  # of the values of a number
SHUFFLES = 200
MOST = 10  # pairs


@dataclass(frozen=True)
class Interaction:
    """A pair of parameters, its share of the variance of the ranks, and how often chance has more.

    The share is what chance has on average less.
    """

    first: str
    second: str
    share: float
    p: float
    trials: int


def interactions(study: StudyView, seed: int = 0) -> list[Interaction]:
    """Return the pairs of parameters, the strongest interaction first.

    A two-way analysis of variance of the ranks of complete trials: values are put into groups, the
    effects of both parameters are taken away, and what the cells still explain is compared with
    shuffled residuals.
    """
    rng, rows = np.random.default_rng(seed), []
    for a, b in combinations([p.name for p in study.parameters], 2):
        trials = [r for r in study.complete if {a, b} <= r.params.keys()]
        if len(trials) >= FEWEST and (row := _interaction(trials, a, b, rng)) is not None:
            rows.append(row)
    return sorted(rows, key=lambda row: -row.share)[:MOST]


def _interaction(
    trials: list[TrialRecord], a: str, b: str, rng: np.random.Generator
) -> Interaction | None:
    ranks = np.argsort(np.argsort([float(r.value or 0.0) for r in trials])).astype(float)
    ranks -= ranks.mean()
    first, second = (_grouped([r.params[name] for r in trials]) for name in (a, b))
    effects = np.hstack([first, second])
    residual = ranks - effects @ np.linalg.lstsq(effects, ranks, rcond=None)[0]
    cells = first.argmax(axis=1) * second.shape[1] + second.argmax(axis=1)
    if first.shape[1] < 2 or second.shape[1] < 2:
        return None
    explained = _explained(cells, residual)
    shuffled = np.array([_explained(cells, rng.permutation(residual)) for _ in range(SHUFFLES)])
    share = max(explained - float(shuffled.mean()), 0.0) / float(ranks @ ranks)
    p = (1 + int((shuffled >= explained).sum())) / (1 + SHUFFLES)
    return Interaction(a, b, share, p, len(trials))


def _grouped(values: list[Any]) -> np.ndarray:
    """Return one column a group (n, groups): a choice each, or numbers by size."""
    if all(isinstance(value, int | float) for value in values):
        numbers = np.asarray(values, float)
        ends = np.unique(np.quantile(numbers, np.arange(1, GROUPS) / GROUPS))
        group = np.searchsorted(ends, numbers, side="right")
    else:
        group = np.unique([str(value) for value in values], return_inverse=True)[1]
    return np.asarray(group[:, None] == np.unique(group), float)


def _explained(cells: np.ndarray, values: np.ndarray) -> float:
    """Return the sum of squares between cells."""
    sums, counts = np.bincount(cells, values), np.bincount(cells)
    return float((sums[counts > 0] ** 2 / counts[counts > 0]).sum())
