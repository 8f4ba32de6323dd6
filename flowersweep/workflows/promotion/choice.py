"""Choose among candidates on tune, and ask the gate about the chosen one on the holdout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from flowersweep.config.schema import Config
from flowersweep.errors import StudyError
from flowersweep.evaluation.gate import (
    Candidate,
    ChanceTest,
    Verdict,
    compare_with_champion,
    compare_with_chance,
    select_one_se,
)
from flowersweep.search.compatibility import study_folder
from flowersweep.study.objectives import direction
from flowersweep.study.records import TrialRecord, ranked_records, read_study
from flowersweep.util.arrays import read_arrays
from flowersweep.workflows.promotion.candidates import Candidates
from flowersweep.workflows.promotion.retraining import Retrained, log_retrained


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


@dataclass(frozen=True)
class Contender:
    """A candidate that was trained again, with what its complete trainings predict."""

    candidate: Candidate
    trials: list[TrialRecord]  # one a seed
    labels: dict[str, np.ndarray]  # of tune and holdout, (n,)
    # of each seed (n, K) on tune, where no head has seen the image that it predicts
    cross_validated: list[np.ndarray] | None

    @property
    def name(self) -> str:
        return self.candidate.name

    def best(self, objective: str) -> int:
        """Return the place of the best training, by tune."""
        return self.trials.index(ranked_records(self.trials, objective)[0])


class GateTests(NamedTuple):
    """What the gate says of the chosen candidate."""

    chance: ChanceTest
    champion: Verdict | None  # None without a champion

    @property
    def better(self) -> bool:
        """Whether it is better than chance, and than the champion if there is one."""
        return self.chance.better and (self.champion is None or self.champion.better)


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, the MLflow run of its best training, and what the gate says."""

    chosen: Contender
    contenders: list[Contender]
    place: int  # of the best training among those of the chosen
    run: str
    opponent: Opponent | None
    tests: GateTests

    @cached_property
    def record(self) -> TrialRecord:
        """The best training of the chosen candidate."""
        return self.chosen.trials[self.place]


def choose(
    config: Config, source: Retrained, trials: Sequence[TrialRecord], opponent: Opponent | None
) -> Choice:
    """Choose a candidate on tune, log the model of its best seed, and test it on the holdout.

    Raises:
        StudyError: No candidate has two complete trainings.
    """
    contenders = _contenders(config, source, trials)
    objective = config.sweep.objective
    maximize = direction(objective) == "maximize"
    by_tune = [contender.candidate for contender in contenders]
    chosen = contenders[select_one_se(by_tune, maximize=maximize)]
    place = chosen.best(objective)
    run = log_retrained(config, source, chosen.trials[place])
    comparison = 1
    if opponent is not None and run != opponent.run:  # itself is no challenger
        challenger = f"run {run}, of {len(trials)} trainings"
        comparison = opponent.count_comparison(challenger=challenger)
    tests = _test(chosen, contenders, opponent, comparison)
    return Choice(chosen, contenders, place, run, opponent, tests)


def _test(
    chosen: Contender,
    contenders: Sequence[Contender],
    opponent: Opponent | None,
    comparison: int,
) -> GateTests:
    logits, labels = chosen.candidate.holdout, chosen.labels["holdout"]
    chance = compare_with_chance(*_unseen(chosen), comparison=comparison)
    if opponent is None or opponent.logits is None:
        return GateTests(chance, None)
    seeds = [contender.candidate.holdout for contender in contenders]
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


def _contenders(
    config: Config, source: Retrained, trials: Sequence[TrialRecord]
) -> list[Contender]:
    """Return the candidates that have a complete training."""
    folder = study_folder(config)
    folds = read_study(folder).started.settings.get("data.folds") or 1
    # the weights of an ensemble are fitted to tune
    parts = ["holdout", "tune"] if folds > 1 and isinstance(source, Candidates) else ["holdout"]
    contenders = []
    for name in source.entries:
        complete = [
            trial
            for trial in trials
            if trial.params["candidate"] == name and trial.state == "complete"
        ]
        if complete:
            contenders.append(_contender(name, source, complete, folder, parts))
    if all(len(contender.trials) < 2 for contender in contenders):
        raise StudyError(
            f"too few trainings of {config.study} were completed to decide; the reasons: "
            f"status study={config.study}"
        )
    return contenders


def _contender(
    name: str,
    source: Retrained,
    complete: list[TrialRecord],
    folder: Path,
    parts: Sequence[str],  # of which it says something that it was not trained on
) -> Contender:
    arrays = [
        read_arrays(folder / "trials" / str(trial.number) / "logits.npz") for trial in complete
    ]
    unseen = {part: [each[part].astype(np.float32) for each in arrays] for part in parts}
    values = [_value(trial) for trial in complete]
    candidate = Candidate(name, source.changes(name), values, unseen["holdout"])
    labels = {part: arrays[0][f"{part}_labels"] for part in ("tune", "holdout")}
    return Contender(candidate, complete, labels, unseen.get("tune"))


def _value(trial: TrialRecord) -> float:
    if trial.value is None:
        raise StudyError(f"trial {trial.number} is complete and has no value in its journal")
    return trial.value
