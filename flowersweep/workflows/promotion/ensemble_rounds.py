"""Trials in rounds: every network of an ensemble with a seed of its own, then what is made of them.

That is soups, which are averages of their weights, and pools of what they predict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from flowersweep.config.paths import Settings, differences_from, flatten
from flowersweep.config.schema import Config, Ensemble
from flowersweep.ensemble.averaging import average, ingredients, is_soup
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
from flowersweep.workflows.promotion.retraining import describe_candidates


@dataclass(frozen=True)
class TrainingRounds:
    """Trials in rounds: every network with a seed of its own, then every soup of them, then every
    candidate, which pools the members of its round.

    See `search.source.TrialSource`.
    """

    entries: dict[str, Params]  # candidate -> its relative weights and its pooling
    seed: int
    home: Config  # where the folder, the store and the images are
    members: tuple[tuple[str, Config], ...]
    # what is trained in each round for a soup alone
    ingredients: tuple[tuple[str, Config], ...] = ()
    fitted: Pool | None = None  # how the members are pooled; None: fitted to tune in each round
    parameters: tuple[Parameter, ...] = ()
    constraints: tuple[Constraint, ...] = ()

    @cached_property
    def names(self) -> list[str]:
        """What is trained, then the soups, then the candidates."""
        networks = (name for name, _ in (*self.ingredients, *self.members))
        return [*sorted(networks, key=is_soup), *self.entries]

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
            trained = replace(dict((*self.ingredients, *self.members))[name], seed=self.seed)
            if is_soup(name):  # which is made of others, as a pool is
                trained = replace(trained, ensemble=Ensemble(ingredients(name)))
            return trained
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
        """Return every network: the candidates train nothing."""
        return [{"candidate": name} for name in self.names if name not in self.entries]

    def describe(self) -> dict[str, Any]:
        """Return members and candidates as plain data."""
        return describe_candidates(self)

    def changes(self, name: str) -> int:
        """Return how much more a candidate is than the simplest: each further network is one, and
        so are unequal weights.
        """
        weights = [weight for weight in self.entries[name]["weights"] if weight > 0]
        return len(weights) - 1 + int(max(weights) > min(weights))

    def pool(self, record: TrialRecord, folder: Path) -> tuple[Members, Pool]:
        """Return the members of a candidate's round and the pool of them.

        Raises:
            TrialFailed: A member was not trained to its end.
        """
        entry = self.entries[record.params["candidate"]]
        arrays = {}
        for name, _ in self.members:
            number = self._number(record, name)
            arrays[name] = read_arrays(
                _require_trained(name, number, folder / "trials" / str(number) / "logits.npz")
            )
        members = _members(arrays, self.home)
        return members, self.fitted or members.pool(entry["weights"], entry["pooling"])

    def soup(self, record: TrialRecord, folder: Path) -> Checkpoint:
        """Return the average of the networks of a soup's round.

        Raises:
            TrialFailed: One of them was not trained to its end.
        """
        numbers = {
            name: self._number(record, name) for name in ingredients(record.params["candidate"])
        }
        paths = [
            _require_trained(name, number, network_path(folder, number))
            for name, number in numbers.items()
        ]
        return average(map(Checkpoint.load, paths), self.config(record.params).train.all_epochs)

    def build_model(
        self, record: TrialRecord, folder: Path, context: TrainingContext
    ) -> tuple[Any, dict[str, Any]]:
        """Return a candidate, pooled from the networks of its round, as one Keras model, and the
        temperatures that calibrate it.
        """
        _, pool = self.pool(record, folder)
        trained = {}
        for n, (name, config) in enumerate(self.members):
            if pool.weights[n] > 0:
                path = network_path(folder, self._number(record, name))
                trained[n] = config, Checkpoint.load(path)
        return build_ensemble(trained, pool, context), pool.calibration()

    def _number(self, record: TrialRecord, name: str) -> int:
        """Return the trial of a network in the round of another trial."""
        first = record.number // len(self.names) * len(self.names)
        return first + self.names.index(name)


class RoundTrial:
    """The work of a trial in rounds: train a network, or average or pool those of its round."""

    def __init__(self, rounds: TrainingRounds) -> None:
        self._rounds, self._training = rounds, TrainTrial(keep_networks=True)

    def steps(self, study: Study, record: TrialRecord, trial: optuna.Trial) -> TrialSteps:
        """Yield the tasks of a trial."""
        name = record.params["candidate"]
        if name in self._rounds.entries:
            end_pooled_trial(study, record, trial, *self._rounds.pool(record, study.folder))
            return
        if is_soup(name):  # as a training that has come to its end
            soup = self._rounds.soup(record, study.folder)
            study.trial_store.save_checkpoint(record, soup)
        yield from self._training.steps(study, record, trial)


def _require_trained(name: str, number: int, path: Path) -> Path:
    if not path.exists():
        raise TrialFailed(f"the training of {name} in trial {number} was not completed")
    return path


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
