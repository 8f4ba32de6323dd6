"""What a study looks for: one objective or several, which way each goes, and the time that a trial took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Literal

from flowersweep.config.schema import Experiment


def objective_names(config: Experiment) -> list[str]:
    """Return the objectives of a study; the first decides which trial is the best."""
    return [*config.sweep.objectives] or [config.sweep.objective]


def direction(objective: str) -> Literal["minimize", "maximize"]:
    """Return which way an objective goes: a likelihood and a time are to be small, a share of hits large."""
    return "minimize" if objective.endswith("nll") or objective == "time" else "maximize"


def better(value: float, than: float, objective: str) -> bool:
    """Say whether one value of an objective is better than another."""
    return value < than if direction(objective) == "minimize" else value > than


def objective_values(
    value: float, metrics: Mapping[str, float], names: Sequence[str]
) -> list[float]:
    """Return a complete trial's values of all objectives, of which ``value`` is the first."""
    return [value, *(metrics[name] for name in names[1:])]


def rank_key(found: Sequence[float], names: Sequence[str]) -> tuple[float, ...]:
    """Return values so that the smaller tuple is better. The smallest is on the Pareto front: the next objective decides between equals."""
    return tuple(
        value if direction(name) == "minimize" else -value
        for value, name in zip(found, names, strict=True)
    )


def training_seconds(times: Sequence[float], *cuts: int) -> float:
    """Return how long a training took, from when it was asked for and when each epoch ended; after so many a stage or a size begins.

    An epoch counts with the median of its stage, without the stage's first if there are more: what was compiled, prepared or waited for
    between two commands is not training.
    """
    gaps = [end - begin for begin, end in pairwise(times)]
    stages = [gaps[begin:end] for begin, end in pairwise(sorted({0, *cuts, len(gaps)}))]
    return sum(len(stage) * median(stage[1:] or stage) for stage in stages if stage)
