"""Choose among candidates on tune, and log the best training of the chosen one.

`promotion.decision` asks the gate about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from flowersweep.config.schema import Config
from flowersweep.errors import StudyError
from flowersweep.evaluation.gate import Candidate, select_one_se
from flowersweep.search.compatibility import study_folder
from flowersweep.study.objectives import direction
from flowersweep.study.records import TrialRecord, ranked_records, read_study
from flowersweep.util.arrays import read_arrays
from flowersweep.workflows.promotion.candidates import Candidates
from flowersweep.workflows.promotion.retraining import Retrained, log_retrained


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


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, and the MLflow run of its best training."""

    chosen: Contender
    contenders: list[Contender]
    place: int  # of the best training among those of the chosen
    run: str

    @cached_property
    def record(self) -> TrialRecord:
        """The best training of the chosen candidate."""
        return self.chosen.trials[self.place]


def choose(config: Config, source: Retrained, trials: Sequence[TrialRecord]) -> Choice:
    """Choose a candidate on tune, and log the model of its best seed.

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
    return Choice(chosen, contenders, place, run)


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
