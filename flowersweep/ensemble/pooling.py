"""A study whose trials train nothing: each pools the stored logits of trained trials with weights of its own.

The same coordinator asks, journals and tracks; only the work of a trial is another. Temperatures and weights are fitted on tune; what
the ensemble gains over its best member is told on holdout.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import optuna

from flowersweep.config.compose import compose_unchecked
from flowersweep.config.schema import Config
from flowersweep.ensemble.analysis import EnsembleAnalysis, analyse, reference_weightings
from flowersweep.ensemble.members import Members
from flowersweep.ensemble.rebuild import at_hand, build_ensemble, rebuild_member
from flowersweep.errors import FlowersweepError, StudyError, TrialFailed
from flowersweep.evaluation.calibration import final_scores
from flowersweep.evaluation.ensemble import Pool
from flowersweep.search.state import Study, Turns
from flowersweep.space.space import Params, Space
from flowersweep.study.records import TrialRecord

log = logging.getLogger(__name__)


@dataclass
class Pooling(Study):
    """A study over the weights of members: its first trials are the usual ways, the sampler searches the others."""

    members: Members

    def __post_init__(self) -> None:
        super().__post_init__()
        self.usual = first_trials(self.members, self.space, self.config.ensemble.pooling)

    def ask(self, number: int) -> tuple[TrialRecord, optuna.Trial]:
        """Return trial ``number``: the one that was in flight, one of the usual ways, or a new suggestion."""
        if len(self.trials) <= number < len(self.usual):
            self.optuna.enqueue_trial(self.usual[number])
        return super().ask(number)

    def tasks(self, record: TrialRecord, trial: optuna.Trial) -> Turns:
        """Pool the members with the weights of a trial, keep the logits, and tell: there is no task for anybody else."""
        config = self.space.config(record.params)
        weights = weights_of(config)
        if not sum(weights) > 0:
            raise TrialFailed("all weights are 0")
        tell(self, record, trial, self.members, self.members.pool(weights, config.ensemble.pooling))
        yield from ()

    def configured(self, record: TrialRecord) -> Config:
        return replace(super().configured(record), data=self.config.data)  # which the words need not name

    def model(self, record: TrialRecord) -> Any:
        """Return a trial's pool as one Keras model, from the members' own networks; None, and why, if they are not at hand."""
        config = self.configured(record)
        pool = self.members.pool(weights_of(config), config.ensemble.pooling)
        used = [n for n, weight in enumerate(pool.weights) if weight > 0]
        try:
            far = [self.members.names[n] for n in used if not at_hand(config, self.members.names[n])]
            if far or self.workshop.runtime.hosts > 1:
                why = f"{', '.join(far)} would have to be fine-tuned again" if far else "one host makes it"
                log.warning("no model was logged, for %s; promoting the study does", why)
                return None
            trained = {n: rebuild_member(config, self.members.names[n], self.members.logits["tune"][n], self.workshop) for n in used}
            return build_ensemble(trained, pool, self.workshop)
        except FlowersweepError as error:  # the pool is what was asked for: its table and page must not wait for the model
            log.warning("no model was logged: %s", error)
            return None

    def findings(self) -> EnsembleAnalysis | None:
        """Tell what the best trial gains over the best member, beside the usual ways; keep it in ``ensemble.json``."""
        if self.best is None:
            return None
        config = self.space.config(self.best.params)
        weights = np.array(weights_of(config))
        chosen = {f"trial {self.best.number}": (weights / weights.sum(), config.ensemble.pooling)}
        found = analyse(self.members, {**chosen, **reference_weightings(self.members)})
        (self.folder / "ensemble.json").write_text(json.dumps(asdict(found), indent=1))
        return found


def tell(study: Study, record: TrialRecord, trial: optuna.Trial, members: Members, pool: Pool) -> None:
    """Keep the logits of a pool as those of a trial, and tell how good they are."""
    logits = {part: pool.logits(logits) for part, logits in members.logits.items()}
    metrics = final_scores({part: logits[part] for part in members.labels}, members.labels)
    arrays = {part: pooled.astype("float16") for part, pooled in logits.items()}
    labels = {f"{part}_labels": labels for part, labels in members.labels.items()}
    value = metrics[study.config.sweep.objective]
    folder = study.shelf.save_result(record.number, value, metrics, {**arrays, **labels})
    study.tell(record, trial, "complete", value=value, metrics=metrics, folder=folder)


def with_weights(config: Config, overrides: Sequence[str], members: Members) -> tuple[Config, tuple[str, ...]]:
    """Return configuration and words of a study with one more parameter for each member: its weight from 0 to 1, relative.

    The images are those of the members, unless the words name some.
    """
    keys = [f"member_{number}" for number in range(len(members.names))]
    words = (*overrides, *(f"+ensemble.weights.{key}=1.0" for key in keys))
    entries: dict[str, Any] = {
        name: {"path": f"ensemble.weights.{key}", "values": "interval(0.0, 1.0)"} for name, key in zip(members.names, keys, strict=True)
    }
    data = config.data if any(word.startswith("data") for word in overrides) else members.data
    sweep = replace(config.sweep, space={**config.sweep.space, **entries})
    return replace(config, data=data, ensemble=compose_unchecked(words).ensemble, sweep=sweep), words


def require_images(members: Members, digest: str, split_seed: int) -> None:
    """Raise StudyError unless these are the images that the members saw, and the same halves of val."""
    if (digest, split_seed) != (members.digest, members.data.split_seed):
        raise StudyError(
            f"the members saw images of digest {members.digest} with data.split_seed={members.data.split_seed}, here are {digest} with "
            f"{split_seed}: leave data=... out to take those of the members, or name them where they lie now"
        )


def weights_of(config: Config) -> list[float]:
    """Return the relative weights of a trial's configuration, in the order of the members."""
    return [config.ensemble.weights[f"member_{number}"] for number in range(len(config.ensemble.weights))]


def first_trials(members: Members, space: Space, fixed: str) -> list[Params]:
    """Return the parameters of the usual ways, the largest weight of each 1; if the pooling is ``fixed``, of those that have it."""
    searched = next((parameter.name for parameter in space.parameters if parameter.path == "ensemble.pooling"), None)
    trials = []
    for weights, pooling in reference_weightings(members).values():
        relative = dict(zip(members.names, (weights / weights.max()).tolist(), strict=True))
        if searched:
            trials.append({searched: pooling, **relative})
        elif pooling == fixed:
            trials.append(relative)
    return trials
