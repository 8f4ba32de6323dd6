"""The objectives of a study: their names, directions and order, and the training time."""

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
    """Return the direction of an objective; only NLL, time and parameters are minimized."""
    least = objective.endswith("nll") or objective in ("time", "parameters")
    return "minimize" if least else "maximize"


def better(value: float, than: float, objective: str) -> bool:
    """Return whether ``value`` is better than ``than``."""
    return value < than if direction(objective) == "minimize" else value > than


def objective_values(
    value: float, metrics: Mapping[str, float], names: Sequence[str]
) -> list[float]:
    """Return the values of all objectives of a complete trial; ``value`` is the first."""
    return [value, *(metrics[name] for name in names[1:])]


def rank_key(values: Sequence[float], names: Sequence[str]) -> tuple[float, ...]:
    """Return a sort key of a trial's values: the smaller key is better.

    The next objective decides between equals, so the smallest key is on the Pareto front.
    """
    return tuple(
        value if direction(name) == "minimize" else -value
        for value, name in zip(values, names, strict=True)
    )


def training_seconds(times: Sequence[float], *cuts: int) -> float:
    """Return the seconds of a training, without compilation and pauses between commands.

    Each epoch counts as the median epoch of its stage. The first epoch of a stage, which compiles,
    is left out of the median if there are others.

    Args:
        times: When the trial was asked for, and when each epoch ended, in seconds.
        cuts: The numbers of epochs after which a new stage or image size begins.
    """
    gaps = [end - begin for begin, end in pairwise(times)]
    stages = [gaps[begin:end] for begin, end in pairwise(sorted({0, *cuts, len(gaps)}))]
    return sum(len(stage) * median(stage[1:] or stage) for stage in stages if stage)
