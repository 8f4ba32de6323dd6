"""Promote a study of an ensemble: each of its members is trained anew with fresh seeds, and pooled.

Beside the study's best weights stand two simpler candidates, equal weights and the best member
alone: the rule of one standard error takes them where the weights, or the ensemble, bring nothing.
Members and pools are trials of one study, round after round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flowersweep.config.images import recorded_or_named
from flowersweep.config.keys import says
from flowersweep.config.schema import Config, Ensemble
from flowersweep.data.dataset import open_dataset
from flowersweep.ensemble.analysis import reference_weightings
from flowersweep.ensemble.averaging import ingredients, trained_for
from flowersweep.ensemble.members import Members, load_members
from flowersweep.ensemble.pooling import require_images
from flowersweep.ensemble.rebuild import configured
from flowersweep.errors import StudyError
from flowersweep.evaluation.scores import Reals
from flowersweep.evaluation.weights import weight_intervals
from flowersweep.search.compatibility import study_folder
from flowersweep.space.space import Params
from flowersweep.study.records import StudyRecord, read_study
from flowersweep.workflows.promotion.decision import Champion, Decision, decide
from flowersweep.workflows.promotion.ensemble_rounds import RoundTrial, TrainingRounds
from flowersweep.workflows.promotion.retraining import (
    UNOBSERVED,
    Observer,
    retrain,
    retraining_config,
)
from flowersweep.workflows.promotion.searched_study import load_study, require_held_out

SINGLE, UNIFORM = "best single", "uniform"


def run_ensemble_promotion(
    config: Config,
    overrides: Sequence[str],
    champion: Champion | None,
    observer: Observer = UNOBSERVED,
) -> Decision:
    """Train the members of a study's best ensemble anew and pool them; choose on tune, compare with
    the champion on holdout.

    Raises:
        StudyError: The study has no complete trial, the members' studies are not there any more, or
            the images are others.
    """
    study = load_study(config)
    config, known = _pooled_members(config, overrides, study)
    require_held_out(config, study.started)
    entries = _entries(study, known)
    members = tuple((name, configured(config, name)) for name in known.names)
    parts = tuple((name, configured(config, name)) for name in trained_for(known.names))
    count = (len(parts) + len(members) + len(entries)) * config.promotion.seeds
    again = retraining_config(
        config,
        rounds_config(config, members),
        what=[study.started.time, entries, known.names],
        n_trials=count,
        objective=study.started.objective,
        objectives=[],
        workers=1,
    )
    opponent = champion(again) if champion else None
    rounds = TrainingRounds(entries, again.seed, config, members, parts)
    trials = retrain(
        again,
        (),
        rounds,
        RoundTrial(rounds),
        experiment=study.started.experiment,
        observer=observer,
    )
    facts = {
        "study": config.study,
        "picked_from": len(study.trials),
        "members": _describe_weights(known, entries),
        "weighed": list(entries)[-1],
    }
    return decide(again, rounds, trials, opponent, facts)


def is_ensemble_study(config: Config) -> bool:
    """Say whether a study is one of an ensemble."""
    study = read_study(study_folder(config))
    return bool(study and study.started.config.get("ensemble", {}).get("members"))


def rounds_config(config: Config, members: Sequence[tuple[str, Config]]) -> Config:
    """Return how a study of rounds is configured: like its first member.

    A pool needs the members of its round, so they train one after the other in this process.
    """
    _, first = members[0]
    data = replace(config.data, image_size=first.data.image_size)  # whose features are there
    return replace(first, data=data, sweep=config.sweep, recipe=None, executor={})


def _pooled_members(
    config: Config, overrides: Sequence[str], study: StudyRecord
) -> tuple[Config, Members]:
    """Return the configuration with the images of the members, and the members.

    Those are the trials that were pooled: those that the study's words name by now may be others.
    """
    started = study.started
    if says(overrides, "sweep.objective", "sweep.objectives"):
        raise StudyError(
            f"an ensemble is promoted by its study's objective, {started.objective}. Leave "
            "sweep.objective out"
        )
    names = [
        name
        for name, entry in started.space.items()
        if entry["path"].startswith("ensemble.weights.")
    ]
    known = load_members(
        replace(config, ensemble=Ensemble(members=names), sweep=replace(config.sweep, space={})),
        overrides,
    )
    if known is None:
        raise StudyError(f"the study {config.study} pools no trials: there is nothing to promote")
    data = recorded_or_named(overrides, config.data, known.data)
    config = replace(config, data=replace(data, folds=known.data.folds))
    images = open_dataset(
        config.data, Path(config.dir) / "cache", trusted=tuple(config.trusted_modules)
    )
    require_images(known, images.digest, config.data.split_seed)
    return config, known


def _entries(study: StudyRecord, members: Members) -> dict[str, Params]:
    """Return the best member alone, equal weights, and the weights of the best trial.

    Returns:
        Name -> relative weights and pooling.
    """
    chosen = study.best
    if chosen is None:
        raise StudyError(f"the study {study.started.study} has no best trial")
    weights = [float(chosen.params[name]) for name in members.names]
    ways = reference_weightings(members)
    entries = {
        name: {"weights": ways[name][0].tolist(), "pooling": ways[name][1]}
        for name in (SINGLE, UNIFORM)
    }
    pool = {
        "weights": [weight / sum(weights) for weight in weights],
        "pooling": chosen.params.get("pooling", study.started.config["ensemble"]["pooling"]),
    }
    known = [
        np.allclose(pool["weights"], entry["weights"]) and pool["pooling"] == entry["pooling"]
        for entry in entries.values()
    ]
    return entries if any(known) else {**entries, f"trial {chosen.number}": pool}


def _describe_weights(members: Members, entries: Mapping[str, Params]) -> list[dict[str, Any]]:
    """Return the weight of each member in the last candidate, and of how many networks it is made.

    The interval says how far the solver's weights would move with other images of tune.
    """
    weights: Reals = np.array(list(entries.values())[-1]["weights"])
    intervals = weight_intervals(members.label_probs, members.labels["tune"])
    return [
        {
            "name": name,
            "networks": len(ingredients(name)),  # more than one: of a soup, which is their average
            "weight": float(weight),
            "low": ends.low,
            "high": ends.high,
        }
        for name, weight, ends in zip(members.names, weights, intervals, strict=True)
    ]
