"""The rounds of KerasTuner's Hyperband: noted on each trial, so that they can be restored, and what follows from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from flowersweep.config.schema import Experiment
from flowersweep.study.records import HyperbandState, TrialRecord

# the name of a trial's attribute that holds bracket, round, epochs, next (how many of the round
# continue) and continues (which trial it continues)
HYPERBAND_ATTR = "keras_tuner"


class HyperbandRoundPruner(BasePruner):
    """Ends a trial when its round does: at the first decision after so many epochs."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        noted: HyperbandState = trial.system_attrs.get(HYPERBAND_ATTR, {})
        return bool(noted) and (trial.last_step or 0) >= noted["epochs"]


def restore(oracle: Any, before: Sequence[FrozenTrial]) -> None:
    """Give a new oracle the brackets that the trials before are in: the ``n``-th bracket from 0, whose rounds halve the less the later."""
    count = oracle._get_num_brackets()
    found: dict[int, list[list[dict[str, Any]]]] = defaultdict(list, {0: []})
    for trial in sorted(
        (each for each in before if HYPERBAND_ATTR in each.system_attrs),
        key=lambda each: each.number,
    ):
        noted = trial.system_attrs[HYPERBAND_ATTR]
        places = found[noted["bracket"]]
        places += [[] for _ in range(noted["round"] + 1 - len(places))]
        parent = noted.get("continues")
        places[noted["round"]].append(
            {"past_id": None if parent is None else str(parent), "id": str(trial.number)}
        )
    newest = max(found)
    oracle._brackets = []
    for bracket, places in sorted(found.items()):
        number = count - 1 - bracket % count
        oracle._brackets.append(
            {
                "bracket_num": number,
                "rounds": [*places, *([] for _ in range(number + 1 - len(places)))],
                "n": bracket,
            }
        )
    oracle._current_bracket, oracle._current_iteration = count - 1 - newest % count, newest // count


def read_state(
    oracle: Any,
    before: Sequence[FrozenTrial],
    number: int,
    values: Mapping[str, Any],
    config: Experiment,
) -> dict[str, Any]:
    """Return what is noted on the trial that the oracle has just placed."""
    newest = max(
        (
            each.system_attrs[HYPERBAND_ATTR]["bracket"]
            for each in before
            if HYPERBAND_ATTR in each.system_attrs
        ),
        default=-1,
    )
    place = next(
        each
        for each in oracle._brackets
        for trials in each["rounds"]
        if str(number) in [trial["id"] for trial in trials]
    )
    turn, epochs = values["tuner/round"], rounded(values["tuner/epochs"], config)
    later = (
        oracle._get_size(place["bracket_num"], turn + 1) if turn + 1 < len(place["rounds"]) else 0
    )
    found = {"bracket": place.get("n", newest + 1), "round": turn, "epochs": epochs, "next": later}
    return (
        {**found, "continues": int(values["tuner/trial_id"])}
        if "tuner/trial_id" in values
        else found
    )


def rounded(epochs: int, config: Experiment) -> int:
    """Return the first decision after so many epochs."""
    length = config.sweep.report_interval_epochs
    return min(-(-epochs // length) * length, config.train.all_epochs)


def first_bracket(oracle: Any, config: Experiment) -> list[tuple[int, int]]:
    """Return of each round of the first bracket how many trials it has, and how many epochs they have then."""
    bracket = oracle._get_num_brackets() - 1
    return [
        (oracle._get_size(bracket, turn), rounded(oracle._get_epochs(bracket, turn), config))
        for turn in range(bracket + 1)
    ]


def promotable(told: Sequence[TrialRecord], rank: Callable[[TrialRecord], Any]) -> set[int]:
    """Return the trials that may go on in the next round, of those that were told: the best of each round of each bracket.

    With workers a bracket begins before the one before it has ended. A trial whose continuation was told has gone on; its place is taken.
    """
    inside = [record for record in told if record.hyperband_state]
    gone = {record.continues for record in inside}
    places: defaultdict[tuple[int, int], list[TrialRecord]] = defaultdict(list)
    for record in inside:
        places[record.hyperband_state["bracket"], record.hyperband_state["round"]].append(record)
    found: set[int] = set()
    for same in places.values():
        paused = [
            record for record in same if record.state == "pruned" and record.number not in gone
        ]
        # one that failed is one that goes on less: KerasTuner leaves out as many as ever
        left = same[0].hyperband_state["next"] - sum(
            record.number in gone or record.state == "failed" for record in same
        )
        found |= {record.number for record in sorted(paused, key=rank)[: max(0, left)]}
    return found
