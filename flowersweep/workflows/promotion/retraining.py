"""Train chosen configurations again, as a study of its own next to the first.

It has the same coordinator, journal and tracking: killed, it goes on, and asked again it trains
nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from optuna.distributions import distribution_to_json

from flowersweep.config.schema import Config, Train
from flowersweep.errors import StudyError
from flowersweep.runtime import start
from flowersweep.search.compatibility import study_folder
from flowersweep.search.duplicates import replicate_seed
from flowersweep.search.source import TrialSource
from flowersweep.search.trial_store import KEEP_ALL
from flowersweep.search.work import TrialWork
from flowersweep.space.space import Params
from flowersweep.study.records import TrialRecord
from flowersweep.training.context import TrainingContext
from flowersweep.training.features import Progress
from flowersweep.workflows.model_logging import log_network
from flowersweep.workflows.sweep import Watch, run_study


@dataclass(frozen=True)
class Observer:
    """Who is told how the trainings go on. See `workflows.sweep.run_sweep`."""

    features: Progress = lambda what, done, total: None
    watch: Watch = lambda study, record: None


UNOBSERVED = Observer()


class Retrained(TrialSource, Protocol):
    """A source whose trials are trained to be promoted."""

    @property
    def entries(self) -> Mapping[str, Params]:
        """The candidates by name."""

    @property
    def home(self) -> Config:
        """Where the folder and the store are."""

    def changes(self, name: str) -> int:
        """Return how much more a candidate is than the simplest."""

    def build_model(
        self, record: TrialRecord, folder: Path, context: TrainingContext
    ) -> tuple[Any, dict[str, Any]]:
        """Return a trial's calibrated Keras model, and the temperatures that calibrate it."""


def trained_config(source: Retrained, record: TrialRecord) -> Config:
    """Return the configuration that a trial was trained with."""
    config = source.home.with_experiment(source.config(record.params).experiment)
    return config if record.seed is None else replace(config, seed=record.seed)


def describe_candidates(source: Retrained) -> dict[str, Any]:
    """Return the candidates of a source as plain data, for the journal."""
    values = distribution_to_json(source.distributions({})["candidate"])
    one = {"path": "candidate", "values": values, "when": {}, "entries": source.entries}
    return {"candidate": one}


def retraining_config(
    config: Config,
    base: Config,
    *,
    kind: str = "promotion",
    what: Sequence[Any],
    **of_sweep: Any,
) -> Config:
    """Return the configuration of the study that trains something anew.

    Args:
        config: Of the command. It names the first study.
        base: How the trainings are configured.
        kind: What it is for, in its name.
        what: Plain data that says what is trained. Other data is another study.
        of_sweep: Settings of the sweep, such as the number of trainings ``n_trials``.
    """
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    # logits are never removed, or asking for fewer seeds would remove what was trained
    settings: dict[str, Any] = {
        "save_predictions_of_best": KEEP_ALL,
        "save_weights_of_best": 1,  # all networks are kept, elsewhere
        "space": {},
        "on_duplicate": "new_seed",
        "import_from": [],
        "budget": config.sweep.budget,
    }
    return replace(
        base,
        study=f"{config.study}-{kind}-{digest[:6]}",
        seed=replicate_seed(digest, 0),
        engine="optuna",
        sampler={"_target_": "optuna.samplers.RandomSampler", "name": "random"},
        pruner={"_target_": "optuna.pruners.NopPruner", "name": "none"},
        sweep=replace(base.sweep, **{**settings, **of_sweep}),
    )


def retrain(
    config: Config,
    words: Sequence[str],
    source: Retrained,
    work: TrialWork,
    *,
    experiment: str,
    observer: Observer,
) -> list[TrialRecord]:
    """Train all that ``source`` has, or what is left of it.

    Args:
        config: See `retraining_config`.
        words: The words of the journal.
        experiment: MLflow's folder of runs.

    Raises:
        StudyError: Not all trainings are there, here and in MLflow.
    """
    outcome = run_study(
        config,
        words,
        source,
        work,
        experiment=experiment,
        features=observer.features,
        watch=observer.watch,
    )
    count = config.sweep.n_trials
    if outcome.stopped or not outcome.shipped:
        why = outcome.stopped or "MLflow does not have all of it yet"
        raise StudyError(
            f"{why}: nothing is decided before all {count} trainings are there; the same "
            "command goes on"
        )
    return outcome.trials[:count]


def log_retrained(config: Config, source: Retrained, record: TrialRecord) -> str:
    """Log the model of a training to its MLflow run; return the run."""
    cache = Path(config.dir) / "cache"
    runtime = start(cache / "compiled")
    context = TrainingContext(runtime, cache, lambda *_: None, config.trusted_modules)
    model, calibration = source.build_model(record, study_folder(config), context)
    trained = replace(trained_config(source, record), study=config.study)
    return log_network(trained, record.number, model, context, calibration=calibration)


def for_more_images(train: Train, growth: float) -> Train:
    """Return a training whose steps are in proportion to ``growth`` times as many images."""
    bound = train.steps_per_epoch
    return replace(
        train,
        min_head_steps=round(growth * train.min_head_steps),
        steps_per_epoch=None if bound is None else round(growth * bound),
    )
