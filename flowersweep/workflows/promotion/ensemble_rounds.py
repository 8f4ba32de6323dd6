"""Trials in rounds: every member of an ensemble with a seed of its own, then pools of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json

from flowersweep.config.paths import Settings, differences_from, flatten
from flowersweep.config.schema import Config, Ensemble
from flowersweep.ensemble.members import PARTS, Arrays, Members
from flowersweep.ensemble.pooling import end_pooled_trial
from flowersweep.ensemble.rebuild import build_ensemble
from flowersweep.errors import TrialFailed
from flowersweep.evaluation.ensemble import Pool
from flowersweep.search.state import Study
from flowersweep.search.trial_store import network_path
from flowersweep.search.work import TrainTrial, TrialSteps
from flowersweep.space.constraints import Constraint
from flowersweep.space.space import Parameter, Params
from flowersweep.study.records import TrialRecord
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.util.arrays import read_arrays


@dataclass(frozen=True)
class TrainingRounds:
    """Trials in rounds: every member with a seed of its own, then every candidate, which pools the
    members of its round.

    See `search.source.TrialSource`.
    """

    entries: dict[str, Params]  # candidate -> its relative weights and its pooling
    seed: int
    home: Config  # where the folder, the store and the images are
    members: tuple[tuple[str, Config], ...]
    fitted: Pool | None = None  # how the members are pooled; None: fitted to tune in each round
    parameters: tuple[Parameter, ...] = ()
    constraints: tuple[Constraint, ...] = ()

    @cached_property
    def names(self) -> list[str]:
        """The members, then the candidates."""
        return [*(name for name, _ in self.members), *self.entries]

    def suggest(self, trial: optuna.Trial) -> Params:
        """Return the members and candidates in turn."""
        return {"candidate": self.names[trial.number % len(self.names)]}

    def distributions(self, params: Params) -> dict[str, BaseDistribution]:
        """Return the one distribution: the names."""
        return {"candidate": CategoricalDistribution(self.names)}

    def config(self, params: Params) -> Config:
        """Return the configuration of a member, or of a pool of them."""
        name = params.get("candidate", self.names[0])
        if name not in self.entries:
            return replace(dict(self.members)[name], seed=self.seed)
        entry = self.entries[name]
        weights = {f"member_{n}": float(weight) for n, weight in enumerate(entry["weights"])}
        pooled = Ensemble(
            [member for member, _ in self.members], pooling=entry["pooling"], weights=weights
        )
        return replace(self.members[0][1], seed=self.seed, ensemble=pooled)

    def settings(self, params: Params) -> Settings:
        """Return where a trial differs from the first member."""
        return differences_from(dict(flatten(self.members[0][1])), self.config(params))

    def choices(self, path: str) -> list[Params]:
        """Return every member: the candidates train nothing."""
        return [{"candidate": name} for name, _ in self.members]

    def describe(self) -> dict[str, Any]:
        """Return members and candidates as plain data."""
        values = distribution_to_json(self.distributions({})["candidate"])
        return {
            "candidate": {
                "path": "candidate",
                "values": values,
                "when": {},
                "entries": self.entries,
            }
        }

    def changes(self, name: str) -> int:
        """Return how much more a candidate is than the simplest: each further network is one, and
        so are unequal weights.
        """
        weights = [weight for weight in self.entries[name]["weights"] if weight > 0]
        return len(weights) - 1 + int(max(weights) > min(weights))

    def trained_config(self, record: TrialRecord) -> Config:
        """Return the configuration that a trial was trained with."""
        config = self.home.with_experiment(self.config(record.params).experiment)
        return config if record.seed is None else replace(config, seed=record.seed)

    def pool(self, record: TrialRecord, folder: Path) -> tuple[Members, Pool]:
        """Return the members of a candidate's round and the pool of them.

        Raises:
            TrialFailed: A member was not trained to its end.
        """
        entry, first = self.entries[record.params["candidate"]], self._first_of_round(record)
        arrays = {}
        for n, (name, _) in enumerate(self.members):
            path = folder / "trials" / str(first + n) / "logits.npz"
            if not path.exists():
                raise TrialFailed(f"the training of {name} in trial {first + n} was not completed")
            arrays[name] = read_arrays(path)
        members = _members(arrays, self.home)
        return members, self.fitted or members.pool(entry["weights"], entry["pooling"])

    def build_model(
        self, record: TrialRecord, folder: Path, context: TrainingContext
    ) -> tuple[Any, dict[str, Any]]:
        """Return a candidate, pooled from the networks of its round, as one Keras model, and the
        temperatures that calibrate it.
        """
        _, pool = self.pool(record, folder)
        first = self._first_of_round(record)
        used = [n for n, weight in enumerate(pool.weights) if weight > 0]
        trained = {
            n: (self.members[n][1], Checkpoint.load(network_path(folder, first + n))) for n in used
        }
        return build_ensemble(trained, pool, context), pool.calibration()

    def _first_of_round(self, record: TrialRecord) -> int:
        return record.number // len(self.names) * len(self.names)


class RoundTrial:
    """The work of a trial in rounds: train a member, or pool what the same round trained."""

    def __init__(self, rounds: TrainingRounds) -> None:
        self._rounds, self._training = rounds, TrainTrial(keep_networks=True)

    def steps(self, study: Study, record: TrialRecord, trial: optuna.Trial) -> TrialSteps:
        """Yield the tasks of a trial."""
        if record.params["candidate"] in self._rounds.entries:
            end_pooled_trial(study, record, trial, *self._rounds.pool(record, study.folder))
        else:
            yield from self._training.steps(study, record, trial)


def _members(arrays: Mapping[str, Arrays], home: Config) -> Members:
    first = next(iter(arrays.values()))
    parts = [part for part in PARTS if part in first]
    logits = {
        part: [np.asarray(each[part], np.float32) for each in arrays.values()] for part in parts
    }
    return Members(
        tuple(arrays),
        logits,
        {part: first[f"{part}_labels"] for part in ("tune", "holdout")},
        home.data,
        "",
    )
