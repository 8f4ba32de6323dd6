"""The configurations of a study that a promotion trains again: the default and the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from flowersweep.config.paths import Settings, differences_from
from flowersweep.config.schema import Config, Experiment
from flowersweep.errors import StudyError
from flowersweep.search.trial_store import network_path
from flowersweep.space.constraints import Constraint
from flowersweep.space.space import Parameter, Params, Space
from flowersweep.study.objectives import rank_key
from flowersweep.study.records import TrialRecord, ranked_records
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.identity import identity
from flowersweep.training.trial import build_keras_model
from flowersweep.workflows.promotion.retraining import (
    describe_candidates,
    for_more_images,
    trained_config,
)

DEFAULT = "default"


@dataclass(frozen=True)
class Candidates:
    """Configurations that were chosen before, as the source of a study.

    See `search.source.TrialSource`.
    """

    space: Space  # of the study that they come from
    entries: dict[str, Params]  # name -> point of that space
    seed: int  # another than the first study's
    home: Config  # where the folder and the store are
    growth: float = 1.0  # how many times as many images they are trained on
    temperature: float | None = None  # of their networks; None: that of each training
    parameters: tuple[Parameter, ...] = ()
    constraints: tuple[Constraint, ...] = ()

    def suggest(self, trial: optuna.Trial) -> Params:
        """Return the candidates in turn: after each round all have the same number of seeds."""
        return {"candidate": [*self.entries][trial.number % len(self.entries)]}

    def distributions(self, params: Params) -> dict[str, BaseDistribution]:
        """Return the one distribution: the names."""
        return {"candidate": CategoricalDistribution([*self.entries])}

    def config(self, params: Params) -> Config:
        """Return the configuration of a candidate, with the seed of this study."""
        config = self.space.config(self.entries[params.get("candidate", next(iter(self.entries)))])
        train = for_more_images(config.train, self.growth)
        return replace(config, seed=self.seed, train=train)

    def settings(self, params: Params) -> Settings:
        """Return where a candidate differs from the default."""
        return differences_from(self.space.base, self.config(params))

    def choices(self, path: str) -> list[Params]:
        """Return every candidate."""
        return [{"candidate": name} for name in self.entries]

    def describe(self) -> dict[str, Any]:
        """Return the candidates as plain data."""
        return describe_candidates(self)

    def build_model(
        self, record: TrialRecord, folder: Path, context: TrainingContext
    ) -> tuple[Any, dict[str, Any]]:
        """Return the calibrated network of a trial as a Keras model, and its temperature."""
        checkpoint = Checkpoint.load(network_path(folder, record.number))
        temperature = self.temperature or record.metrics["tune/temperature"]
        config = trained_config(self, record)
        model = build_keras_model(config, checkpoint, context, temperature=temperature)
        return model, {"temperature": temperature}

    def changes(self, name: str) -> int:
        """Return how many settings of a candidate differ from the default."""
        return len({**self.settings({"candidate": name}), "seed": 0}) - 1


def choose_candidates(
    config: Experiment, space: Space, ranked: Sequence[TrialRecord], top: int, replicas: int
) -> dict[str, Params]:
    """Return the default configuration and the best of ``ranked`` trials, none of them twice.

    Returns:
        Name -> parameters.
    """
    entries, seen = {DEFAULT: Params()}, {identity(space.config({}), replicas)}
    for record in ranked:
        what = identity(space.config(record.params), replicas)
        if len(entries) <= top and what not in seen:
            entries[f"trial {record.number}"] = record.params
            seen.add(what)
    return entries


def ranked_for(
    trials: Sequence[TrialRecord], names: Sequence[str], of_study: Sequence[str]
) -> list[TrialRecord]:
    """Return the complete trials, the best first by the objectives ``names``.

    Args:
        of_study: The objectives that the study had.

    Raises:
        StudyError: A complete trial does not have one of these metrics.
    """
    if list(names) == list(of_study):
        return ranked_records(trials, *names)
    complete = [trial for trial in trials if trial.state == "complete"]
    for name in names:
        if lacking := [trial.number for trial in complete if name not in trial.metrics]:
            usable = ", ".join(
                sorted(key for key in complete[0].metrics if key.startswith("tune/"))
            )
            raise StudyError(
                f"sweep.objective={name}: trial {lacking[0]} of the study has no such metric, so "
                f"its trials cannot be ranked by it. Use one of {usable}, "
                f"or leave sweep.objective out: the study's is {of_study[0]}"
            )
    return sorted(
        complete, key=lambda trial: rank_key([trial.metrics[name] for name in names], names)
    )
