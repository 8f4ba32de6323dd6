"""Exactly the trials stop that the published algorithms would stop, on curves whose answer is
known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import optuna
import pytest

from flowersweep.config.compose import compose
from flowersweep.search import optuna_study
from flowersweep.space.space import Space

NOTHING = Space((), {}, (), frozenset())

# epochs 2, 4, 6, 8 of each trial, lower is better; with rungs at 2, 4 and 8 epochs and a factor of
# 2 it goes on while it is
# in the better half of those that reached the rung before it and itself (of one, two or three:
# while it is the best)
CURVES = [
    (0.9, 0.7, 0.6, 0.5),  # the first: nothing to compare with
    (0.8, 0.6, 0.5, 0.4),  # best at 2 and at 4 of two
    (0.85, 0.1, 0.1, 0.1),  # second of three at 2: 3 // 2 = 1 may go on
    # second of four at 2, two go on; second of three at 4: stops there, whatever comes later
    (0.84, 0.65, 0.3, 0.2),
    (0.7, 0.55, 0.5, 0.5),  # best of five at 2, best of four at 4
    (0.83, 0.1, 0.1, 0.1),  # third of six at 2, three go on; best at 4
    (0.95, 0.1, 0.1, 0.1),  # last at 2
]
STOPPED = {2: 2, 3: 4, 6: 2}  # trial -> the epoch that it stops at


def stopped(curves: Sequence[Sequence[float]], study: optuna.Study) -> dict[int, int]:
    """Run trials one after another on these curves; return which the study's pruner stops, and
    when.
    """
    found = {}
    for number, curve in enumerate(curves):
        trial = study.ask()
        for epoch, value in zip(range(2, 99, 2), curve, strict=False):
            trial.report(value, epoch)
            if epoch < 2 * len(curve) and trial.should_prune():
                found[number] = epoch
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, curve[-1])
    return found


def asha(
    curves: Sequence[Sequence[float]], *, smallest: int, factor: int
) -> Iterator[tuple[int, int]]:
    """Asynchronous successive halving (Li et al. 2020, algorithm 2), which stops a trial where the
    paper would pause it.

    At rung k, ``smallest * factor**k`` epochs, a trial is promoted if it is in the top ``1 /
    factor`` of those that reached it. The paper promotes nobody while fewer than ``factor`` are
    there; stopping, the best so far goes on instead.
    """
    rungs: dict[int, list[float]] = {}
    for number, curve in enumerate(curves):
        rung = smallest
        while rung < 2 * len(curve):
            value, others = curve[rung // 2 - 1], rungs.setdefault(rung, [])
            others.append(value)
            if sum(other < value for other in others) >= max(1, len(others) // factor):
                yield number, rung
                break
            rung *= factor


def study_of(*words: str) -> optuna.Study:
    return optuna_study.rebuild_study([], NOTHING, compose(words))


def test_successive_halving_stops_exactly_the_trials_of_a_table() -> None:
    assert stopped(CURVES, study_of("pruner=successive_halving")) == STOPPED
    assert dict(asha(CURVES, smallest=2, factor=2)) == STOPPED


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("objective", ["tune/nll", "tune/accuracy"])
def test_successive_halving_stops_what_the_paper_stops(factor: int, objective: str) -> None:
    # falling, and crossing
    curves = np.random.default_rng(factor).uniform(0.5, 1.5, (60, 10)).cumsum(axis=1) * -0.1 + 2.0
    study = study_of(
        "pruner=successive_halving",
        f"pruner.reduction_factor={factor}",
        f"sweep.objective={objective}",
    )
    expected = dict(asha(curves.tolist(), smallest=2, factor=factor))
    assert stopped(curves if objective == "tune/nll" else -curves, study) == expected
    assert 60 * 0.3 < len(expected) < 60
    assert len(set(expected.values())) > 1


def brackets(study: optuna.Study, trials: int) -> list[int]:
    pruner = study.pruner
    assert isinstance(pruner, optuna.pruners.HyperbandPruner)
    frozen = [optuna.trial.create_trial(value=0.0) for _ in range(trials)]
    for number, trial in enumerate(frozen):
        trial.number = number
    return [pruner._get_bracket_id(study, trial) for trial in frozen]


def test_hyperbands_brackets_follow_from_seed_and_number_alone() -> None:
    words = ("pruner=hyperband", "train.epochs=16")
    first = brackets(study_of(*words, "study=one"), 40)
    assert set(first) == {0, 1, 2, 3}  # 2, 4, 8 and 16 epochs before a trial may be stopped
    assert brackets(study_of(*words, "study=two", "dir=elsewhere"), 40) == first
    assert brackets(study_of(*words, "seed=1"), 40) != first


def test_hyperband_knows_the_epochs_of_all_stages() -> None:
    words = ("pruner=hyperband", "train=finetune", "train.epochs=4", "train.head_epochs=4")
    assert set(brackets(study_of(*words), 40)) == {0, 1, 2}
    assert set(brackets(study_of(*words, "pruner.max_resource=4"), 40)) == {0, 1}
