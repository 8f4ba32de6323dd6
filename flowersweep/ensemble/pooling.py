"""Trials that train nothing: each pools the stored logits of trained trials with its own weights.

Temperatures and weights are fitted on tune. What the ensemble gains over its best member is
measured on the holdout.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import optuna

from flowersweep.config.compose import compose_unchecked
from flowersweep.config.images import recorded_or_named
from flowersweep.config.schema import Config, Experiment
from flowersweep.ensemble.analysis import EnsembleAnalysis, analyse, reference_weightings
from flowersweep.ensemble.members import Members
from flowersweep.ensemble.rebuild import at_hand, build_ensemble, rebuild_member
from flowersweep.errors import FlowersweepError, StudyError, TrialFailed
from flowersweep.evaluation.divergence import unusable_logits
from flowersweep.evaluation.ensemble import Pool
from flowersweep.evaluation.trial_scores import final_scores
from flowersweep.search.state import Study
from flowersweep.search.work import TrialSteps
from flowersweep.space.space import Params, Space
from flowersweep.study.records import TrialRecord
from flowersweep.training.context import TrainingContext
from flowersweep.util.files import write_bytes

log = logging.getLogger(__name__)


class PoolTrial:
    """The work of a trial that pools members with its weights. See `search.work.TrialWork`."""

    def __init__(self, members: Members) -> None:
        self._members = members

    def steps(self, study: Study, record: TrialRecord, trial: optuna.Trial) -> TrialSteps:
        """Pool the members and end the trial; there is no task for the executor."""
        config = study.source.config(record.params)
        weights = weights_of(config)
        if not sum(weights) > 0:
            raise TrialFailed("all weights are 0")
        pool = self._members.pool(weights, config.ensemble.pooling)
        end_pooled_trial(study, record, trial, self._members, pool)
        yield from ()


def build_best_model(
    study: Study, members: Members, context: TrainingContext
) -> tuple[Any, dict[str, Any]] | None:
    """Return the pool of the best trial as one Keras model, and the temperatures in it.

    Returns:
        None if the members are not at hand. The log says why.
    """
    if study.best is None:
        return None
    # which the words need not name
    config = replace(study.trial_config(study.best), data=study.config.data)
    pool = members.pool(weights_of(config), config.ensemble.pooling)
    used = [n for n, weight in enumerate(pool.weights) if weight > 0]
    try:
        far = [members.names[n] for n in used if not at_hand(config, members.names[n])]
        if far or context.runtime.hosts > 1:
            why = (
                f"{', '.join(far)} would have to be fine-tuned again"
                if far
                else "one host makes it"
            )
            log.warning("no model was logged, for %s; promoting the study does", why)
            return None
        trained = {
            n: rebuild_member(config, members.names[n], members.logits["tune"][n], context)
            for n in used
        }
        return build_ensemble(trained, pool, context), pool.calibration()
    # the pool is what was asked for: its table and page must not wait for the model
    except FlowersweepError as error:
        log.warning("no model was logged: %s", error)
        return None


def analyse_best(study: Study, members: Members) -> EnsembleAnalysis | None:
    """Compare the best trial and the usual weightings with the best member.

    The result is written to ``ensemble.json`` too.
    """
    if study.best is None:
        return None
    config = study.source.config(study.best.params)
    weights = np.array(weights_of(config))
    chosen = {f"trial {study.best.number}": (weights / weights.sum(), config.ensemble.pooling)}
    analysis = analyse(members, {**chosen, **reference_weightings(members)})
    write_bytes(study.folder / "ensemble.json", json.dumps(asdict(analysis), indent=1).encode())
    return analysis


def end_pooled_trial(
    study: Study, record: TrialRecord, trial: optuna.Trial, members: Members, pool: Pool
) -> None:
    """Keep the logits of a pool as those of a trial, and end the trial with their scores."""
    logits = {part: pool.logits(logits) for part, logits in members.logits.items()}
    metrics = final_scores({part: logits[part] for part in members.labels}, members.labels)
    if members.data.train_on == "all":  # they have seen the holdout: no score of it is evidence
        metrics = {name: value for name, value in metrics.items() if "holdout/" not in name}
    for part, values in logits.items():
        if fault := unusable_logits(part, values):
            raise TrialFailed(fault)
    arrays = {part: pooled.astype("float16") for part, pooled in logits.items()}
    labels = {f"{part}_labels": labels for part, labels in members.labels.items()}
    value = metrics[study.config.sweep.objective]
    folder = study.trial_store.save_result(record.number, value, metrics, {**arrays, **labels})
    study.end_trial(record, trial, "complete", value=value, metrics=metrics, folder=folder)


def with_weights(
    config: Config, overrides: Sequence[str], members: Members
) -> tuple[Config, tuple[str, ...]]:
    """Return configuration and words of a study that searches the weight of each member.

    A weight is relative, from 0 to 1. The images are those of the members, unless the words name
    some.
    """
    keys = [f"member_{number}" for number in range(len(members.names))]
    words = (*overrides, *(f"+ensemble.weights.{key}=1.0" for key in keys))
    entries: dict[str, Any] = {
        name: {"path": f"ensemble.weights.{key}", "values": "interval(0.0, 1.0)"}
        for name, key in zip(members.names, keys, strict=True)
    }
    named = recorded_or_named(overrides, config.data, members.data)
    data = replace(named, folds=members.data.folds)
    sweep = replace(config.sweep, space={**config.sweep.space, **entries})
    return replace(
        config, data=data, ensemble=compose_unchecked(words).ensemble, sweep=sweep
    ), words


def require_images(members: Members, digest: str, split_seed: int) -> None:
    """Check that these are the images that the members saw, and the same halves of val.

    Raises:
        StudyError: They are not.
    """
    if (digest, split_seed) != (members.digest, members.data.split_seed):
        raise StudyError(
            f"the members saw images of digest {members.digest} with "
            f"data.split_seed={members.data.split_seed}, here are {digest} with "
            f"{split_seed}: leave data=... out to take those of the members, or name them where "
            "they lie now"
        )


def weights_of(config: Experiment) -> list[float]:
    """Return the relative weights of a trial's configuration, in the order of the members."""
    return [
        config.ensemble.weights[f"member_{number}"]
        for number in range(len(config.ensemble.weights))
    ]


def first_trials(members: Members, space: Space, fixed: str) -> list[Params]:
    """Return the parameters of the usual weightings, the largest weight of each being 1.

    Args:
        fixed: The pooling, where the space does not search it: only weightings with it are
            returned.
    """
    searched = next(
        (parameter.name for parameter in space.parameters if parameter.path == "ensemble.pooling"),
        None,
    )
    trials = []
    for weights, pooling in reference_weightings(members).values():
        relative = dict(zip(members.names, (weights / weights.max()).tolist(), strict=True))
        if searched:
            trials.append({searched: pooling, **relative})
        elif pooling == fixed:
            trials.append(relative)
    return trials
