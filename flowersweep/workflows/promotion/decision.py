"""What a promotion decides, with the evidence as plain data. `report.evidence` shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowersweep.config.schema import Config
from flowersweep.evaluation.gate import to_dict
from flowersweep.evaluation.scores import accuracy
from flowersweep.evaluation.statistics import mcnemar, wilson
from flowersweep.study.records import TrialRecord
from flowersweep.workflows.promotion.choice import Choice, Contender, Opponent, choose
from flowersweep.workflows.promotion.retraining import Retrained, trained_config


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
    choice = choose(config, source, trials, opponent)
    chosen = choice.chosen
    evidence = {**facts, **_describe(config, source, choice)}
    better = choice.tests.better
    return Decision(better, choice.run, evidence, config, source, chosen.name, chosen.trials)


def _describe(config: Config, source: Retrained, choice: Choice) -> dict[str, Any]:
    """Return what was trained, what was chosen by which rule, and what the gate says of it."""
    chosen, record, opponent = choice.chosen, choice.record, choice.opponent
    objective, champion = config.sweep.objective, choice.tests.champion
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
        "promoted": _describe_model(choice),
        "against_chance": {"metric": "holdout/macro_f1", **to_dict(choice.tests.chance)},
        "against_champion": None
        if champion is None
        else {"metric": "holdout/macro_f1", **to_dict(champion)},
    }
    if opponent and opponent.note:
        evidence["no_champion"] = opponent.note
    return evidence


def _describe_model(choice: Choice) -> dict[str, Any]:
    """Return what the one model that is registered has on holdout.

    That is its accuracy with Wilson's interval, and McNemar's test with the champion.
    """
    logits, labels = choice.chosen.candidate.holdout[choice.place], choice.chosen.labels["holdout"]
    against = choice.opponent.logits if choice.opponent else None
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
