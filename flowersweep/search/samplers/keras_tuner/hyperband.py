"""The rounds of KerasTuner's Hyperband: store them on trials, restore and read them."""

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
    """Ends a trial at the first decision after the epochs of its round."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        state: HyperbandState = trial.system_attrs.get(HYPERBAND_ATTR, {})
        return bool(state) and (trial.last_step or 0) >= state["epochs"]


def restore(oracle: Any, before: Sequence[FrozenTrial]) -> None:
    """Give a new oracle the brackets of the earlier trials.

    Each later bracket has fewer rounds, until the next iteration starts over.
    """
    count = oracle._get_num_brackets()
    brackets: dict[int, list[list[dict[str, Any]]]] = defaultdict(list, {0: []})
    in_rounds = [trial for trial in before if HYPERBAND_ATTR in trial.system_attrs]
    for trial in sorted(in_rounds, key=lambda trial: trial.number):
        state = trial.system_attrs[HYPERBAND_ATTR]
        rounds = brackets[state["bracket"]]
        rounds += [[] for _ in range(state["round"] + 1 - len(rounds))]
        parent = state.get("continues")
        rounds[state["round"]].append(
            {"past_id": None if parent is None else str(parent), "id": str(trial.number)}
        )
    newest = max(brackets)
    oracle._brackets = []
    for bracket, rounds in sorted(brackets.items()):
        number = count - 1 - bracket % count
        oracle._brackets.append(
            {
                "bracket_num": number,
                "rounds": [*rounds, *([] for _ in range(number + 1 - len(rounds)))],
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
    """Return the Hyperband state of the trial that the oracle has just placed."""
    states = [trial.system_attrs.get(HYPERBAND_ATTR) for trial in before]
    newest = max((state["bracket"] for state in states if state is not None), default=-1)
    bracket = next(
        bracket
        for bracket in oracle._brackets
        for trials in bracket["rounds"]
        if str(number) in [trial["id"] for trial in trials]
    )
    turn, epochs = values["tuner/round"], rounded(values["tuner/epochs"], config)
    later = (
        oracle._get_size(bracket["bracket_num"], turn + 1)
        if turn + 1 < len(bracket["rounds"])
        else 0
    )
    state = {
        "bracket": bracket.get("n", newest + 1),
        "round": turn,
        "epochs": epochs,
        "next": later,
    }
    if "tuner/trial_id" in values:
        state["continues"] = int(values["tuner/trial_id"])
    return state


def rounded(epochs: int, config: Experiment) -> int:
    """Return the epoch of the first pruning decision at or after ``epochs``."""
    length = config.sweep.report_interval_epochs
    return min(-(-epochs // length) * length, config.train.all_epochs)


def first_bracket(oracle: Any, config: Experiment) -> list[tuple[int, int]]:
    """Return the number of trials and the epochs of each round of the first bracket."""
    bracket = oracle._get_num_brackets() - 1
    return [
        (oracle._get_size(bracket, turn), rounded(oracle._get_epochs(bracket, turn), config))
        for turn in range(bracket + 1)
    ]


def promotable(ended: Sequence[TrialRecord], rank: Callable[[TrialRecord], Any]) -> set[int]:
    """Return the ended trials that the next round may continue: the best of each round.

    With workers, several brackets may be open at once. A trial whose continuation has ended keeps
    its place in the next round.
    """
    inside = [record for record in ended if record.hyperband_state]
    continued = {record.continues for record in inside}
    rounds: defaultdict[tuple[int, int], list[TrialRecord]] = defaultdict(list)
    for record in inside:
        rounds[record.hyperband_state["bracket"], record.hyperband_state["round"]].append(record)
    numbers: set[int] = set()
    for same in rounds.values():
        paused = [
            record for record in same if record.state == "pruned" and record.number not in continued
        ]
        # a failed trial takes a place too: KerasTuner always drops the same number of trials
        places = same[0].hyperband_state["next"] - sum(
            record.number in continued or record.state == "failed" for record in same
        )
        numbers |= {record.number for record in sorted(paused, key=rank)[: max(0, places)]}
    return numbers
