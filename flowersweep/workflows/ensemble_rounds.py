"""Rounds of trials: every member of an ensemble with a seed of its own, then pools of what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from flowersweep.config.paths import Settings, differences, flatten
from flowersweep.config.schema import Config, Ensemble
from flowersweep.ensemble.members import PARTS, Arrays, Members
from flowersweep.ensemble.pooling import tell
from flowersweep.ensemble.rebuild import build_ensemble
from flowersweep.errors import TrialFailed
from flowersweep.evaluation.ensemble import Pool
from flowersweep.search.state import Turns
from flowersweep.space.space import Params
from flowersweep.study.records import TrialRecord
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.workflows.promotion import Candidates, Replication, network_path


@dataclass(frozen=True)
class Rounds(Candidates):
    """Rounds of trials: every member with a seed of its own, then every candidate, each a pool of the members of its round."""

    members: tuple[tuple[str, Config], ...] = ()

    @cached_property
    def names(self) -> list[str]:
        """The members, then the candidates."""
        return [name for name, _ in (*self.members, *self.entries)]

    def suggest(self, trial: optuna.Trial) -> Params:
        return {"candidate": self.names[trial.number % len(self.names)]}

    def distributions(self, params: Params) -> dict[str, BaseDistribution]:
        return {"candidate": CategoricalDistribution(self.names)}

    def config(self, params: Params) -> Config:
        name = params.get("candidate", self.names[0])
        pools = dict(self.entries)
        if name not in pools:
            return replace(dict(self.members)[name], seed=self.seed)
        weights = {f"member_{n}": float(weight) for n, weight in enumerate(pools[name]["weights"])}
        pooled = Ensemble([member for member, _ in self.members], pooling=pools[name]["pooling"], weights=weights)
        return replace(self.members[0][1], seed=self.seed, ensemble=pooled)

    def settings(self, params: Params) -> Settings:
        base, trial = (dict(flatten(each)) for each in (self.members[0][1], self.config(params)))
        return {path: new for path, (_, new) in differences(base, trial).items()}

    def choices(self, path: str) -> list[Params]:
        return [{"candidate": name} for name, _ in self.members]

    def changes(self, name: str) -> int:
        """Return how much more a candidate is than the simplest: a network more is one, and so are unequal weights."""
        weights = [weight for weight in dict(self.entries)[name]["weights"] if weight > 0]
        return len(weights) - 1 + int(max(weights) > min(weights))

    def pool(self, record: TrialRecord, folder: Path, home: Config) -> tuple[Members, Pool]:
        """Return the members of a candidate's round, and the pool of them. Raises TrialFailed if one was not trained to its end."""
        asked, first = dict(self.entries)[record.params["candidate"]], record.number // len(self.names) * len(self.names)
        arrays = {}
        for n, (name, _) in enumerate(self.members):
            path = folder / "trials" / str(first + n) / "logits.npz"
            if not path.exists():
                raise TrialFailed(f"the training of {name} in trial {first + n} was not completed")
            with np.load(path) as kept:
                arrays[name] = dict(kept)
        found = _members(arrays, home)
        return found, found.pool(asked["weights"], asked["pooling"])

    def model(self, record: TrialRecord, folder: Path, workshop: TrainingContext) -> Any:
        """Return a candidate, pooled from the networks of its round, as one Keras model."""
        _, pool = self.pool(record, folder, self.home)
        first = record.number // len(self.names) * len(self.names)
        used = [n for n, weight in enumerate(pool.weights) if weight > 0]
        trained = {n: (self.members[n][1], Checkpoint.load(network_path(folder, first + n))) for n in used}
        return build_ensemble(trained, pool, workshop)


class Round(Replication):
    """A study that trains members, and pools what it trained in the same round."""

    def tasks(self, record: TrialRecord, trial: optuna.Trial) -> Turns:
        assert isinstance(self.space, Rounds)
        if record.params["candidate"] not in dict(self.space.entries):
            yield from super().tasks(record, trial)
        else:
            tell(self, record, trial, *self.space.pool(record, self.folder, self.config))


def _members(arrays: Mapping[str, Arrays], home: Config) -> Members:
    first = next(iter(arrays.values()))
    parts = [part for part in PARTS if part in first]
    logits = {part: [np.asarray(each[part], np.float32) for each in arrays.values()] for part in parts}
    return Members(tuple(arrays), logits, {part: first[f"{part}_labels"] for part in ("tune", "holdout")}, home.data, "")
