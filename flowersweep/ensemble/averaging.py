"""The average of the weights of several networks, which is one network (Wortsman et al. 2022).

As a member of an ensemble it is named ``STUDY:TRIAL:TRIAL:...`` after the trials that are in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.step import State


def ingredients(member: str) -> list[str]:
    """Return the trials that are averaged in a member, as ``STUDY:TRIAL``; one of a plain trial."""
    study, *numbers = member.split(":")
    return [f"{study}:{number}" for number in numbers]


def is_soup(member: str) -> bool:
    """Say whether a member is the average of several trials."""
    return len(ingredients(member)) > 1


def soup_name(trials: Sequence[str]) -> str:
    """Return the name of the average of trials of one study, whatever their order."""
    numbers = sorted({int(trial.partition(":")[2]) for trial in trials})
    return ":".join([trials[0].partition(":")[0], *map(str, numbers)])


def trained_for(members: Iterable[str]) -> list[str]:
    """Return the trials that members are averages of, without those that are members too."""
    alone = {member for member in members if not is_soup(member)}
    inside = (trial for member in members if is_soup(member) for trial in ingredients(member))
    return [trial for trial in dict.fromkeys(inside) if trial not in alone]


def average(networks: Iterable[Checkpoint], epoch: int) -> Checkpoint:
    """Return the mean of the weights of trained networks, none of them more than once in memory.

    Where a network has an average of its own weights, that one counts. The statistics of batch
    normalisation are averaged like weights; whole numbers are those of the first network.

    Args:
        networks: At least one, all with the same arrays.
        epoch: The epoch that the result is said to be trained until.

    Raises:
        ValueError: There is none, or the arrays of two have other shapes.
    """
    count, first, sums = 0, None, list[Any]()
    for network in networks:
        state = network.state
        assert state is not None
        arrays = [np.asarray(array) for array in (*state.weights, *state.non_trainable)]
        if first is None:
            first, sums = (state, arrays), [array.astype(np.float64) for array in arrays]
        elif [array.shape for array in arrays] != [array.shape for array in sums]:
            raise ValueError("networks with arrays of other shapes cannot be averaged")
        else:
            for total, array in zip(sums, arrays, strict=True):
                total += array
        count += 1
    if first is None:
        raise ValueError("there is no network to average")
    state, arrays = first
    means: list[Any] = [
        (total / count).astype(array.dtype) if np.issubdtype(array.dtype, np.inexact) else array
        for total, array in zip(sums, arrays, strict=True)
    ]
    cut = len(state.weights)
    return Checkpoint(epoch, State(state.step, means[:cut], means[cut:], [], []))
