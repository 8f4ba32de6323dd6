"""Soups: averages of fine-tuned trials of a study, as members of an ensemble.

Which trials are in one is decided greedily on tune. A soup is not trained, and its logits are kept
in the cache: a study of an ensemble that goes on has the same soups.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from flowersweep.config.keys import is_within, settings_with_role
from flowersweep.config.paths import Settings
from flowersweep.config.schema import Config
from flowersweep.config.setting import TRAINED
from flowersweep.config.validation import uses_workers
from flowersweep.data.dataset import Dataset
from flowersweep.ensemble.averaging import ingredients, soup_name
from flowersweep.ensemble.rebuild import configured, load_network, recorded, weights
from flowersweep.errors import ConfigError, StudyError
from flowersweep.evaluation.calibration import temperature
from flowersweep.evaluation.divergence import unusable_logits
from flowersweep.evaluation.trial_scores import score_part
from flowersweep.runtime import start
from flowersweep.study.objectives import better
from flowersweep.study.records import StudyRecord, ranked_records, read_study
from flowersweep.training import trial
from flowersweep.training.context import TrainingContext, part_names
from flowersweep.util.arrays import cache_arrays, cached_arrays

SOUP = "soup"  # STUDY:soup asks for the greedy soup of a study
# what networks must share before their weights can be averaged
ALIKE = ("model", "data.image_size", "data.resize")
APART = ("model.dropout", "model.ensemble_loss")  # of training alone
FROZEN = "a head on a frozen backbone"
HEADS = (
    "To average heads on one backbone is to average their logits: leave the soup out, and take "
    "ensemble.pooling=geometric"
)


def choose_greedily(
    ranked: Sequence[str], score: Callable[[list[str]], float], objective: str
) -> tuple[list[str], dict[str, float]]:
    """Return which trials to average: each of ``ranked`` with which the score does not fall.

    Greedy soup of Wortsman et al. 2022 (arXiv 2203.05482, recipe 1).

    Args:
        ranked: The trials, the best first.
        score: Of the average of trials.

    Returns:
        The trials, and the score of the average after each trial that was tried.
    """
    chosen: list[str] = []
    scores: dict[str, float] = {}
    for name in ranked:
        value = scores[name] = score([*chosen, name])
        best = scores[chosen[-1]] if chosen else None
        if best is None or value == best or better(value, best, objective):
            chosen.append(name)
    return chosen, scores


@dataclass
class Soups:
    """Makes the soups that an ensemble asks for.

    Args:
        config: Of the command, with the images that the members saw.
        digest: Of those images.
    """

    config: Config
    digest: str
    notes: list[str] = field(default_factory=list)  # what was averaged, what was left out and why

    def choose(self, study: str) -> str:
        """Return the greedy soup of a study's fine-tuned trials.

        Raises:
            StudyError: The study has no fine-tuned trials whose weights are kept.
        """
        record = read_study(Path(self.config.dir) / "studies" / study)
        usable, left_out = self._sort_out(study, record)
        objective = record.started.objective
        chosen, scores = choose_greedily(
            usable, lambda trials: self._score(trials, objective), objective
        )
        left_out += [
            f"{name} ({objective} would be {scores[name]:.4g})"
            for name in usable
            if name not in chosen
        ]
        name, before = soup_name(chosen), scores[usable[0]]
        how = (
            f"{study}:{SOUP} is {name}, the average of the weights of {len(chosen)} trials: "
            f"{objective} {scores[chosen[-1]]:.4g}, and {before:.4g} of {usable[0]} alone"
            if len(chosen) > 1
            else f"{study}:{SOUP} is {name} alone, since no average with it is better"
        )
        why = f". Left out: {', '.join(left_out)}" if left_out else ""
        self.notes.append(f"{how}{why}")
        return name

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return logits (n, K) of each part of a soup, and labels (n,), as a trial stores them.

        Raises:
            StudyError: Its trials cannot be averaged.
        """
        path = self._cached(name)
        known = cached_arrays(path, ["tune", "holdout", "tune_labels", "holdout_labels"])
        if known is None:
            self._require_alike(name)
            known = self._predict(name, part_names(self._dataset(name)))
            cache_arrays(path, known)
        return known

    def _score(self, trials: list[str], objective: str) -> float:
        name = soup_name(trials)
        path = self._cached(name, "-tune")
        arrays = cached_arrays(path, ["tune", "tune_labels"])
        if arrays is None:
            arrays = self._predict(name, ["tune"])
            cache_arrays(path, arrays)
        logits, labels = arrays["tune"].astype(np.float32), arrays["tune_labels"]
        if unusable_logits("tune", logits):
            return float("nan")  # not better than anything
        return score_part("tune", logits, labels, temperature(logits, labels))[objective]

    def _predict(self, name: str, parts: Sequence[str]) -> dict[str, np.ndarray]:
        network = load_network(self.config, name)
        if network is None:
            raise StudyError(self._lacking(name))
        self._dataset(name)
        own, context = configured(self.config, name), self._context
        assert network.state is not None
        stage, _ = trial.stage_at(own, network.epoch - 1, context)
        arrays = {part: stage.logits(network.state, part).astype(np.float16) for part in parts}
        labels = [part for part in parts if part in ("tune", "holdout")]
        return arrays | {f"{part}_labels": trial.part_labels(context, own, part) for part in labels}

    def _sort_out(self, study: str, record: StudyRecord) -> tuple[list[str], list[str]]:
        """Return the trials that can be averaged, the best first, and why the others cannot."""
        ranked = [
            f"{study}:{each.number}" for each in ranked_records(record.trials, *record.objectives)
        ]
        stored = [name for name in ranked if weights(self.config, name)]
        tuned = [name for name in stored if self._finetuned(name)]
        if not tuned and any(map(self._finetuned, ranked)):
            raise StudyError(self._lacking(next(filter(self._finetuned, ranked))))
        if not tuned:
            raise StudyError(f"{study}:{SOUP}: {study} has no fine-tuned trials. {HEADS}")
        unlike = {name: self._differences(name, tuned[0]) for name in tuned}
        left_out = [f"{name} ({unlike[name]})" for name in tuned if unlike[name]]
        left_out += [f"{name} ({FROZEN})" for name in stored if name not in tuned]
        if lost := len(ranked) - len(stored):
            left_out.append(
                f"{lost} more, whose weights were not kept (sweep.save_weights_of_best)"
            )
        return [name for name in tuned if not unlike[name]], left_out

    def _require_alike(self, name: str) -> None:
        first, *_ = trials = ingredients(name)
        if frozen := [each for each in trials if not self._finetuned(each)]:
            raise StudyError(f"{name}: {frozen[0]} is {FROZEN}. {HEADS}")
        for other in trials:
            if unlike := self._differences(other, first):
                raise StudyError(
                    f"the weights of {other} and {first} cannot be averaged: of {other}, {unlike}"
                )

    def _finetuned(self, name: str) -> bool:
        return recorded(self.config, name).train.finetune

    def _differences(self, name: str, other: str) -> str:
        """Say in what two networks differ so that they cannot be averaged."""
        mine, others = self._network_settings(name), self._network_settings(other)
        return "; ".join(
            f"{path} is {mine.get(path)} and not {others.get(path)}"
            for path in {**others, **mine}
            if mine.get(path) != others.get(path)
        )

    def _network_settings(self, name: str) -> Settings:
        return {
            path: value
            for path, value in settings_with_role(recorded(self.config, name), TRAINED).items()
            if is_within(path, *ALIKE) and path not in APART
        }

    def _lacking(self, name: str) -> str:
        gone = [each for each in ingredients(name) if weights(self.config, each) is None]
        return (
            f"the weights of {', '.join(gone)} were not kept, and a soup is made of weights. A "
            "study keeps those of its best trial, or of more: start another, study=NAME "
            "sweep.save_weights_of_best=10"
        )

    def _dataset(self, name: str) -> Dataset:
        """Return the images for a soup. Raises StudyError if its trials saw others."""
        images = self._context.dataset(configured(self.config, name).data)
        if images.digest != self.digest:
            raise StudyError(
                f"the trials of {name} saw images of digest {self.digest}, here are "
                f"{images.digest}: leave data=... out to take those of the members, or name them "
                "where they lie now"
            )
        return images

    def _cached(self, name: str, part: str = "") -> Path:
        studies = Path(self.config.dir) / "studies"
        started = read_study(studies / name.partition(":")[0]).started
        what = [name, started.time, self.digest, self.config.data.split_seed]
        digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
        return Path(self.config.dir) / "cache" / "soups" / f"{digest}{part}.npz"

    @cached_property
    def _context(self) -> TrainingContext:
        config = self.config
        if config.distributed.coordinator is not None:
            raise ConfigError("a soup is made by one host: leave distributed.coordinator out")
        cache = Path(config.dir) / "cache"
        runtime = start(cache / "compiled", platform="cpu" if uses_workers(config) else None)
        return TrainingContext(runtime, cache, lambda *_: None, config.trusted_modules)
