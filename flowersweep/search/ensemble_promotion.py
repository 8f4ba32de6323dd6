"""An ensemble before the gate: each of its members is trained anew with fresh seeds, and what came out of a round is known.

Beside the study's best weights stand two simpler candidates, equal weights and the best member alone: the rule of one standard error
takes them where the weights, or the ensemble, bring nothing. Members and pools are trials of one study, round after round.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from flowersweep.config import Config, Ensemble, Settings, differences, flatten
from flowersweep.errors import TrialFailed
from flowersweep.evaluation.ensemble import Pool
from flowersweep.evaluation.scores import Reals
from flowersweep.evaluation.weights import weight_intervals
from flowersweep.journal import read
from flowersweep.search.ensemble import tell
from flowersweep.search.findings import usual_ways
from flowersweep.search.history import Record, best
from flowersweep.search.identity import replicate_seed
from flowersweep.search.members import Arrays, Members, members_of
from flowersweep.search.promotion import Candidates, Champion, Decision, Replication, decided, network, require_all, study_of
from flowersweep.search.restored import configured, united
from flowersweep.search.run import folder_of, search
from flowersweep.search.space import Params
from flowersweep.search.study import Study
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.features import Progress
from flowersweep.training.workshop import Workshop

SINGLE, UNIFORM = "best single", "uniform"


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

    def pool(self, record: Record, folder: Path, home: Config) -> tuple[Members, Pool]:
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

    def model(self, record: Record, folder: Path, workshop: Workshop) -> Any:
        """Return a candidate, pooled from the networks of its round, as one Keras model."""
        _, pool = self.pool(record, folder, self.home)
        first = record.number // len(self.names) * len(self.names)
        used = [n for n, weight in enumerate(pool.weights) if weight > 0]
        trained = {n: (self.members[n][1], Checkpoint.load(network(folder, first + n))) for n in used}
        return united(trained, pool, workshop)


class Round(Replication):
    """A study that trains members, and pools what it trained in the same round."""

    def evaluate(self, record: Record, trial: optuna.Trial) -> None:
        assert isinstance(self.space, Rounds)
        if record.params["candidate"] not in dict(self.space.entries):
            super().evaluate(record, trial)
            return
        tell(self, record, trial, *self.space.pool(record, self.folder, self.config))


def ensemble_promotion(
    config: Config,
    champion: Champion | None,
    *,
    features: Progress = lambda what, done, total: None,
    watch: Callable[[Study, Record | None], None] = lambda study, record: None,
) -> Decision:
    """Train the members of a study's best ensemble anew, pool them, choose on tune, compare with the champion on report.

    Raises StudyError if the study has no complete trial, or if the members' studies are not there any more.
    """
    begun, trials = study_of(config)
    ensemble = Ensemble(**{key: value for key, value in begun["config"]["ensemble"].items() if key != "weights"})
    known = members_of(replace(config, ensemble=ensemble, sweep=replace(config.sweep, space={})))
    assert known is not None
    config = replace(config, data=replace(known.data, cache_bytes=config.data.cache_bytes))
    entries = _entries(trials, known, begun["config"]["ensemble"]["pooling"], objectives_of(begun))
    members = tuple((name, configured(config, name)) for name in known.names)
    base, count = members[0][1], (len(members) + len(entries)) * config.promotion.seeds
    what = hashlib.sha256(json.dumps([begun["time"], entries, known.names], sort_keys=True).encode()).hexdigest()
    again = replace(
        base,
        study=f"{config.study}-promotion-{what[:6]}",
        seed=replicate_seed(what, 0),
        data=config.data,
        sampler={"_target_": "optuna.samplers.RandomSampler", "name": "random"},
        pruner={"_target_": "optuna.pruners.NopPruner", "name": "none"},
        sweep=replace(
            config.sweep,
            objective=begun["objective"],
            objectives=[],
            n_trials=count,
            keep=2**31,
            space={},
            repeats="replicate",
        ),
        promotion=config.promotion,
        verb=config.verb,
        progress=config.progress,
        cluster=config.cluster,
        recipe=None,
    )
    against = champion(again) if champion else None
    points = Rounds((), {}, (), frozenset(), tuple(entries.items()), again.seed, config, members)
    outcome = search(again, (), experiment=begun["experiment"], features=features, watch=watch, space=points, kind=Round)
    require_all(outcome, count)
    told = {"study": config.study, "picked_from": len(trials), "members": _weights(known, entries)}
    return decided(again, points, outcome.trials[:count], against, told)


def pooled(config: Config) -> bool:
    """Say whether a study is one of an ensemble."""
    events, _ = read(folder_of(config) / "journal.jsonl")
    return bool(events and events[0]["config"].get("ensemble", {}).get("members"))


def objectives_of(begun: Mapping[str, Any]) -> list[str]:
    """Return what a study optimises, from its journal."""
    return begun["config"]["sweep"].get("objectives") or [str(begun["objective"])]


def _entries(trials: Sequence[Record], members: Members, fixed: str, names: Sequence[str]) -> dict[str, Params]:
    """Return the best member alone, equal weights, and the weights of the best trial: name -> relative weights and pooling."""
    chosen = best(trials, *names)
    assert chosen is not None
    weights = [float(chosen.params[name]) for name in members.names]
    ways = usual_ways(members)
    entries = {name: {"weights": ways[name][0].tolist(), "pooling": ways[name][1]} for name in (SINGLE, UNIFORM)}
    found = {"weights": [weight / sum(weights) for weight in weights], "pooling": chosen.params.get("pooling", fixed)}
    known = [np.allclose(found["weights"], each["weights"]) and found["pooling"] == each["pooling"] for each in entries.values()]
    return entries if any(known) else {**entries, f"trial {chosen.number}": found}


def _members(arrays: Mapping[str, Arrays], home: Config) -> Members:
    first = next(iter(arrays.values()))
    parts = [part for part in ("tune", "report", "test") if part in first]
    logits = {part: [np.asarray(each[part], np.float32) for each in arrays.values()] for part in parts}
    return Members(tuple(arrays), logits, {part: first[f"{part}_labels"] for part in ("tune", "report")}, home.data, "")


def _weights(members: Members, entries: Mapping[str, Params]) -> list[dict[str, Any]]:
    """Return the weight of each member in the last candidate, and how far the solver's would move with other images of tune."""
    weights: Reals = np.array(list(entries.values())[-1]["weights"])
    intervals = weight_intervals(members.chances, members.labels["tune"])
    return [
        {"name": name, "weight": float(weight), "low": ends.low, "high": ends.high}
        for name, weight, ends in zip(members.names, weights, intervals, strict=True)
    ]
