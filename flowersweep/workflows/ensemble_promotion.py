"""An ensemble before the gate: each of its members is trained anew with fresh seeds, and what came
out of a round is known.

Beside the study's best weights stand two simpler candidates, equal weights and the best member
alone: the rule of one standard error takes them where the weights, or the ensemble, bring nothing.
Members and pools are trials of one study, round after round.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flowersweep.config.compose import recorded_or_named
from flowersweep.config.keys import says
from flowersweep.config.schema import Config, Ensemble
from flowersweep.data.dataset import open_dataset
from flowersweep.ensemble.analysis import reference_weightings
from flowersweep.ensemble.members import Members, load_members
from flowersweep.ensemble.pooling import require_images
from flowersweep.ensemble.rebuild import configured
from flowersweep.errors import StudyError
from flowersweep.evaluation.scores import Reals
from flowersweep.evaluation.weights import weight_intervals
from flowersweep.search.compatibility import study_folder
from flowersweep.search.state import Study
from flowersweep.space.space import Params
from flowersweep.study.records import TrialRecord, best_record, read_study
from flowersweep.training.features import Progress
from flowersweep.workflows.ensemble_rounds import RoundTrial, TrainingRounds
from flowersweep.workflows.promotion import (
    Champion,
    Decision,
    decide,
    load_study,
    require_all,
    retraining_config,
)
from flowersweep.workflows.sweep import run_study

SINGLE, UNIFORM = "best single", "uniform"


def run_ensemble_promotion(
    config: Config,
    overrides: Sequence[str],
    champion: Champion | None,
    *,
    features: Progress = lambda what, done, total: None,
    watch: Callable[[Study, TrialRecord | None], None] = lambda study, record: None,
) -> Decision:
    """Train the members of a study's best ensemble anew, pool them, choose on tune, compare with
    the champion on holdout.

    Raises StudyError if the study has no complete trial, if the members' studies are not there any
    more, or if the images are others.
    """
    study = load_study(config)
    started = study.started
    if says(overrides, "sweep.objective", "sweep.objectives"):
        raise StudyError(
            f"an ensemble is promoted by its study's objective, {started.objective}. Leave "
            "sweep.objective out"
        )
    # the trials that were pooled: those that the study's words name by now may be others
    names = [
        name
        for name, entry in started.space.items()
        if entry["path"].startswith("ensemble.weights.")
    ]
    known = load_members(
        replace(config, ensemble=Ensemble(members=names), sweep=replace(config.sweep, space={}))
    )
    if known is None:
        raise StudyError(f"the study {config.study} pools no trials: there is nothing to promote")
    data = recorded_or_named(overrides, config.data, known.data)
    config = replace(config, data=replace(data, folds=known.data.folds))
    images = open_dataset(
        config.data, Path(config.dir) / "cache", trusted=tuple(config.trusted_modules)
    )
    require_images(known, images.digest, config.data.split_seed)
    entries = _entries(study.trials, known, started.config["ensemble"]["pooling"], study.objectives)
    members = tuple((name, configured(config, name)) for name in known.names)
    what = hashlib.sha256(
        json.dumps([started.time, entries, known.names], sort_keys=True).encode()
    ).hexdigest()
    count = (len(members) + len(entries)) * config.promotion.seeds
    # a pool needs the members of its round: one after the other, here
    base = replace(members[0][1], data=config.data, sweep=config.sweep, recipe=None, executor={})
    again = retraining_config(
        config, base, what, count, objective=started.objective, objectives=[], workers=1
    )
    against = champion(again) if champion else None
    rounds = TrainingRounds(entries, again.seed, config, members)
    outcome = run_study(
        again,
        (),
        rounds,
        RoundTrial(rounds),
        experiment=started.experiment,
        features=features,
        watch=watch,
    )
    require_all(outcome, count)
    evidence = {
        "study": config.study,
        "picked_from": len(study.trials),
        "members": _weights(known, entries),
        "weighed": list(entries)[-1],
    }
    return decide(again, rounds, outcome.trials[:count], against, evidence)


def is_ensemble_study(config: Config) -> bool:
    """Say whether a study is one of an ensemble."""
    study = read_study(study_folder(config))
    return bool(study and study.started.config.get("ensemble", {}).get("members"))


def _entries(
    trials: Sequence[TrialRecord], members: Members, fixed: str, names: Sequence[str]
) -> dict[str, Params]:
    """Return the best member alone, equal weights, and the weights of the best trial: name ->
    relative weights and pooling.
    """
    chosen = best_record(trials, *names)
    assert chosen is not None
    weights = [float(chosen.params[name]) for name in members.names]
    ways = reference_weightings(members)
    entries = {
        name: {"weights": ways[name][0].tolist(), "pooling": ways[name][1]}
        for name in (SINGLE, UNIFORM)
    }
    pool = {
        "weights": [weight / sum(weights) for weight in weights],
        "pooling": chosen.params.get("pooling", fixed),
    }
    known = [
        np.allclose(pool["weights"], each["weights"]) and pool["pooling"] == each["pooling"]
        for each in entries.values()
    ]
    return entries if any(known) else {**entries, f"trial {chosen.number}": pool}


def _weights(members: Members, entries: Mapping[str, Params]) -> list[dict[str, Any]]:
    """Return the weight of each member in the last candidate, and how far the solver's would move
    with other images of tune.
    """
    weights: Reals = np.array(list(entries.values())[-1]["weights"])
    intervals = weight_intervals(members.label_probs, members.labels["tune"])
    return [
        {"name": name, "weight": float(weight), "low": ends.low, "high": ends.high}
        for name, weight, ends in zip(members.names, weights, intervals, strict=True)
    ]
