"""Train the chosen model once more, on all labelled images: that is the one that is registered.

What it is worth is known from its siblings alone, which have not seen val. So are its temperatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flowersweep.config.schema import Config
from flowersweep.data.dataset import open_dataset
from flowersweep.ensemble.averaging import trained_for
from flowersweep.errors import StudyError
from flowersweep.evaluation.ensemble import mean_pool
from flowersweep.search.compatibility import study_folder
from flowersweep.search.work import TrainTrial, TrialWork
from flowersweep.study.records import TrialRecord
from flowersweep.training.folds import count_folds, training_images
from flowersweep.workflows.promotion.candidates import Candidates
from flowersweep.workflows.promotion.decision import Decision
from flowersweep.workflows.promotion.ensemble import rounds_config
from flowersweep.workflows.promotion.ensemble_rounds import RoundTrial, TrainingRounds
from flowersweep.workflows.promotion.retraining import (
    UNOBSERVED,
    Observer,
    Retrained,
    for_more_images,
    log_retrained,
    retrain,
    retraining_config,
)
from flowersweep.workflows.promotion.searched_study import load_study, searched

REFIT = "refit"


class RefitStudy(NamedTuple):
    """The study of a refit: its configuration, words, trials, and what each of them does."""

    config: Config
    words: Sequence[str]
    source: Retrained
    work: TrialWork


def refit(
    config: Config, overrides: Sequence[str], decision: Decision, observer: Observer = UNOBSERVED
) -> str:
    """Train what was chosen on train and val together; return the MLflow run of its model.

    The study of these trainings goes on after a kill.

    Raises:
        StudyError: A training failed.
    """
    source = decision.source
    study = (
        _ensemble_study(config, decision, source)
        if isinstance(source, TrainingRounds)
        else _single_study(config, overrides, decision)
    )
    experiment = load_study(config).started.experiment
    *_, last = retrain(*study, experiment=experiment, observer=observer)
    if last.state != "complete":
        raise StudyError(
            f"the training on all images failed, see `status study={study.config.study}`; "
            "promotion.refit=false registers a model of the trainings before it"
        )
    return log_retrained(study.config, study.source, last)


def _single_study(config: Config, overrides: Sequence[str], decision: Decision) -> RefitStudy:
    """Return the study that trains one configuration."""
    started, entry = load_study(config).started, decision.source.entries[decision.candidate]
    base, space = searched(config, started, [*overrides, "data.train_on=all"])
    what = [started.time, entry, REFIT]
    again = retraining_config(config, base, kind=REFIT, what=what, n_trials=1)
    source = Candidates(
        space,
        {REFIT: entry},
        again.seed,
        base,
        growth=_growth(base),
        temperature=_mean_temperature(decision.siblings),
    )
    return RefitStudy(again, space.overrides, source, TrainTrial(keep_networks=True))


def _ensemble_study(config: Config, decision: Decision, rounds: TrainingRounds) -> RefitStudy:
    """Return the study that trains each member with a weight, and pools them as their siblings.

    Of a soup, the trials that are in it are trained, and averaged again.
    """
    entry, folder = rounds.entries[decision.candidate], study_folder(decision.config)
    pool = mean_pool([rounds.pool(sibling, folder)[1] for sibling in decision.siblings])
    used = np.flatnonzero(pool.weights)
    trained = dict((*rounds.ingredients, *rounds.members))
    names = [rounds.members[n][0] for n in used]
    members, parts = (
        tuple((name, _on_all(trained[name])) for name in group)
        for group in (names, trained_for(names))
    )
    home = replace(rounds.home, data=replace(rounds.home.data, train_on="all"))
    again = retraining_config(
        config,
        rounds_config(replace(home, sweep=decision.config.sweep), members),
        kind=REFIT,
        what=[load_study(config).started.time, entry, names, REFIT],
        n_trials=len(parts) + len(members) + 1,
    )
    fitted = replace(pool, temperatures=pool.temperatures[used], weights=pool.weights[used])
    entries = {REFIT: {"weights": fitted.weights.tolist(), "pooling": fitted.pooling}}
    source = TrainingRounds(entries, again.seed, home, members, parts, fitted)
    return RefitStudy(again, (), source, RoundTrial(source))


def _on_all(config: Config) -> Config:
    """Return a member's configuration for all labelled images."""
    data = replace(config.data, train_on="all")
    return replace(config, data=data, train=for_more_images(config.train, _growth(config)))


def _growth(config: Config) -> float:
    """Return how many times as many images train and val are together as the siblings saw."""
    dataset = open_dataset(
        replace(config.data, train_on="train"),
        Path(config.dir) / "cache",
        trusted=tuple(config.trusted_modules),
    )
    images = training_images(1, dataset) + len(dataset.splits["val"])
    before = replace(config, data=replace(config.data, train_on="train"))
    return images / training_images(count_folds(before, dataset), dataset)


def _mean_temperature(siblings: Sequence[TrialRecord]) -> float:
    """Return the geometric mean of the temperatures that trainings have on tune."""
    return float(
        np.exp(np.mean([np.log(record.metrics["tune/temperature"]) for record in siblings]))
    )
