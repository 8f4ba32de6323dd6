"""Promote a study of trainings: its best configurations are trained anew, and the gate decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flowersweep.config.schema import Config
from flowersweep.config.validation import uses_workers
from flowersweep.runtime import start
from flowersweep.search.compatibility import study_folder
from flowersweep.search.work import TrainTrial
from flowersweep.study.baselines import compare_with_baselines
from flowersweep.study.objectives import objective_names
from flowersweep.util.arrays import read_arrays
from flowersweep.workflows.promotion.candidates import Candidates, choose_candidates, ranked_for
from flowersweep.workflows.promotion.decision import Champion, Decision, decide
from flowersweep.workflows.promotion.retraining import (
    UNOBSERVED,
    Observer,
    retrain,
    retraining_config,
)
from flowersweep.workflows.promotion.searched_study import load_study, require_held_out, searched


def run_promotion(
    config: Config,
    overrides: Sequence[str],
    champion: Champion | None,
    observer: Observer = UNOBSERVED,
) -> Decision:
    """Train the study's best configurations and its default anew; choose one on tune, compare it
    with the champion on holdout.

    Raises:
        StudyError: The study has no complete trial, or nothing that could be trained again; or
            the images have other classes.
    """
    study = load_study(config)
    started, trials = study.started, study.trials
    base, space = searched(config, started, overrides)
    require_held_out(base, started)
    names = objective_names(base)
    ranked = ranked_for(trials, names, study.objectives)
    top, replicas = config.promotion.top, started.settings["replicas"]
    entries = choose_candidates(base, space, ranked, top, replicas)
    # JAX takes the accelerators when it first computes, and they are the workers'
    if uses_workers(base):
        start(Path(config.dir) / "cache" / "compiled", platform="cpu")
    # before minutes of training: what does not fit is said now
    opponent = champion(base) if champion else None
    count = len(entries) * config.promotion.seeds
    again = retraining_config(config, base, what=[started.time, entries, names], n_trials=count)
    source, work = Candidates(space, entries, again.seed, base), TrainTrial(keep_networks=True)
    trained = retrain(
        again, space.overrides, source, work, experiment=started.experiment, observer=observer
    )
    facts = {"study": config.study, "picked_from": len(trials)}
    decision = decide(again, source, trained, opponent, facts)
    baselines = _compare_with_baselines(config, decision)
    return replace(decision, evidence={**decision.evidence, "baselines": baselines})


def _compare_with_baselines(config: Config, decision: Decision) -> str | None:
    """Say how the chosen training compares with the baselines of the study that it comes from."""
    trial = str(decision.evidence["trial"])
    arrays = read_arrays(study_folder(decision.config) / "trials" / trial / "logits.npz")
    return compare_with_baselines(study_folder(config), arrays["holdout"], arrays["holdout_labels"])
