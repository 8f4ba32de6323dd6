"""Ask the gate about the chosen candidate on the holdout, and write the evidence as plain data.

`promotion.choice` has chosen it on tune; `report.evidence` shows the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from flowersweep.config.schema import Config
from flowersweep.evaluation.gate import (
    ChanceTest,
    Verdict,
    compare_with_champion,
    compare_with_chance,
    to_dict,
)
from flowersweep.evaluation.scores import accuracy
from flowersweep.evaluation.statistics import mcnemar, wilson
from flowersweep.study.records import TrialRecord
from flowersweep.workflows.promotion.choice import Choice, Contender, choose
from flowersweep.workflows.promotion.retraining import Retrained, trained_config


class CountComparison(Protocol):
    """Note a comparison before it is made; return its number on these held-out images, from 1."""

    def __call__(self, *, challenger: str) -> int:
        """``challenger``: what is compared with the opponent."""


@dataclass(frozen=True)
class Opponent:
    """What a candidate is compared with on one configuration's held-out images.

    That is the champion, or chance alone if there is none.
    """

    run: str | None
    logits: np.ndarray | None  # (n, K) on holdout
    count_comparison: CountComparison
    note: str | None = None  # why there is none, although the registry has a champion


Champion = Callable[[Config], Opponent]


class GateTests(NamedTuple):
    """What the gate says of the chosen candidate."""

    chance: ChanceTest
    champion: Verdict | None  # None without a champion

    @property
    def better(self) -> bool:
        """Whether it is better than chance, and than the champion if there is one."""
        return self.chance.better and (self.champion is None or self.champion.better)


@dataclass(frozen=True)
class Decision:
    """What the gate says, and the evidence for it."""

    better: bool  # than chance, and than the champion if there is one
    run: str  # the MLflow run of the chosen model
    evidence: dict[str, Any]
    config: Config  # of the study whose trainings are the evidence
    source: Retrained  # of its trials
    candidate: str  # the chosen one
    siblings: list[TrialRecord]  # its trainings: one a seed


def decide(
    config: Config,
    source: Retrained,
    trials: Sequence[TrialRecord],
    opponent: Opponent | None,
    facts: Mapping[str, Any],
) -> Decision:
    """Choose a candidate, log the model of its best seed and ask the gate.

    Args:
        config: Of the study that trained the candidates.
        facts: What else belongs to the evidence.

    Raises:
        StudyError: Too few trainings are complete.
    """
    choice = choose(config, source, trials)
    chosen, comparison = choice.chosen, 1
    if opponent is not None and choice.run != opponent.run:  # itself is no challenger
        challenger = f"run {choice.run}, of {len(trials)} trainings"
        comparison = opponent.count_comparison(challenger=challenger)
    tests = _test(choice, opponent, comparison)
    evidence = {**facts, **_describe(config, source, choice, opponent), **_describe_tests(tests)}
    return Decision(tests.better, choice.run, evidence, config, source, chosen.name, chosen.trials)


def _test(choice: Choice, opponent: Opponent | None, comparison: int) -> GateTests:
    chosen = choice.chosen
    logits, labels = chosen.candidate.holdout, chosen.labels["holdout"]
    chance = compare_with_chance(*_unseen(chosen), comparison=comparison)
    if opponent is None or opponent.logits is None:
        return GateTests(chance, None)
    seeds = [contender.candidate.holdout for contender in choice.contenders]
    verdict = compare_with_champion(logits, opponent.logits, labels, seeds, comparison=comparison)
    return GateTests(chance, verdict)


def _unseen(contender: Contender) -> tuple[Sequence[np.ndarray], np.ndarray]:
    """Return what a contender says of images that it was not trained on, and their labels.

    These are the holdout's; of cross-validated heads those of tune too, since a holdout of a few
    images could not show that the best model is better than chance.
    """
    holdout, labels = contender.candidate.holdout, contender.labels
    if contender.cross_validated is None:
        return holdout, labels["holdout"]
    pairs = zip(holdout, contender.cross_validated, strict=True)
    both = [np.concatenate(pair) for pair in pairs]
    return both, np.concatenate([labels["holdout"], labels["tune"]])


def _describe(
    config: Config, source: Retrained, choice: Choice, opponent: Opponent | None
) -> dict[str, Any]:
    """Return what was trained, and what was chosen by which rule."""
    chosen, record, objective = choice.chosen, choice.record, config.sweep.objective
    evidence = {
        "chosen": chosen.name,
        "trial": record.number,
        "settings": {**source.settings(record.params), "seed": trained_config(source, record).seed},
        "rule": (
            f"simplest within one standard error of the best mean {objective} over "
            f"{len(chosen.trials)} seeds on tune"
        ),
        "objective": objective,
        "candidates": [_describe_contender(contender) for contender in choice.contenders],
        "images": {part: len(labels) for part, labels in chosen.labels.items()},
        "cross_validated": chosen.cross_validated is not None,
        "promoted": _describe_model(choice, opponent),
    }
    if opponent and opponent.note:
        evidence["no_champion"] = opponent.note
    return evidence


def _describe_tests(tests: GateTests) -> dict[str, Any]:
    """Return what the gate says."""
    metric, champion = {"metric": "holdout/macro_f1"}, tests.champion
    return {
        "against_chance": {**metric, **to_dict(tests.chance)},
        "against_champion": None if champion is None else {**metric, **to_dict(champion)},
    }


def _describe_model(choice: Choice, opponent: Opponent | None) -> dict[str, Any]:
    """Return what the one model that is registered has on holdout.

    That is its accuracy with Wilson's interval, and McNemar's test with the champion.
    """
    logits, labels = choice.chosen.candidate.holdout[choice.place], choice.chosen.labels["holdout"]
    against = opponent.logits if opponent else None
    right = accuracy(logits, labels)
    test = (
        None
        if against is None
        else mcnemar(logits.argmax(axis=1), against.argmax(axis=1), labels)._asdict()
    )
    return {
        "holdout/accuracy": right,
        "interval": [*wilson(round(right * len(labels)), len(labels))],
        "mcnemar": test,
    }


def _describe_contender(contender: Contender) -> dict[str, Any]:
    return {
        "name": contender.name,
        "changes": contender.candidate.changes,
        "tune": [float(value) for value in contender.candidate.tune],
        "holdout/macro_f1": [trial.metrics["holdout/macro_f1"] for trial in contender.trials],
    }
