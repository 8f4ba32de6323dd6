"""From a study to a champion: its best configurations are trained anew with fresh seeds, and the gate decides.

What is trained is a study of its own beside the first, ``NAME-promotion-...``, with the same coordinator, journal and tracking: killed,
it goes on, and asked again it trains nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json

from flowersweep.config.compose import compose, parse
from flowersweep.config.keys import key_of, role_of, settings_with_role
from flowersweep.config.schema import COMMAND, TRAINED, Config, Experiment
from flowersweep.config.validation import uses_workers
from flowersweep.errors import StudyError
from flowersweep.evaluation.gate import Candidate, Verdict, compare_with_champion, select_one_se, to_dict
from flowersweep.evaluation.scores import accuracy
from flowersweep.evaluation.statistics import mcnemar, wilson
from flowersweep.runtime import start
from flowersweep.search.compatibility import describe_changes, study_folder
from flowersweep.search.deduplication import identity, replicate_seed
from flowersweep.search.state import Study, Turns
from flowersweep.space.space import Params, Space, build_space
from flowersweep.study.claim import describe_best
from flowersweep.study.events import StudyStarted
from flowersweep.study.objectives import direction, objective_names, objective_values, rank_key
from flowersweep.study.records import StudyRecord, TrialRecord, read_study
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.features import Progress
from flowersweep.training.trial import Result, build_keras_model
from flowersweep.workflows.model_logging import log_network
from flowersweep.workflows.sweep import SweepResult, run_sweep

DEFAULT = "default"
Champion = Callable[[Config], np.ndarray]  # logits (n, K) of the champion on the images of holdout


@dataclass(frozen=True)
class Candidates(Space):
    """A space whose points are configurations that were chosen before; the seed is another than the first study's."""

    entries: tuple[tuple[str, Params], ...] = ()
    seed: int = 0
    home: Config = field(default_factory=Config)  # where the folder and the store are

    def suggest(self, trial: optuna.Trial) -> Params:
        """Return the candidates in turn: after each round all have the same number of seeds."""
        return {"candidate": self.entries[trial.number % len(self.entries)][0]}

    def distributions(self, params: Params) -> dict[str, BaseDistribution]:
        return {"candidate": CategoricalDistribution([name for name, _ in self.entries])}

    def config(self, params: Params) -> Config:
        return replace(super().config(dict(self.entries)[params.get("candidate", DEFAULT)]), seed=self.seed)

    def trained(self, record: TrialRecord) -> Config:
        """Return the configuration that a trial was trained with."""
        config = self.home.with_experiment(self.config(record.params).experiment)
        return config if record.seed is None else replace(config, seed=record.seed)

    def model(self, record: TrialRecord, folder: Path, workshop: TrainingContext) -> Any:
        """Return the trained network of a trial as a Keras model."""
        return build_keras_model(self.trained(record), Checkpoint.load(network_path(folder, record.number)), workshop)

    def changes(self, name: str) -> int:
        """Return how much more a candidate is than the simplest."""
        return len({**self.settings({"candidate": name}), "seed": 0}) - 1

    def choices(self, path: str) -> list[Params]:
        return [{"candidate": name} for name, _ in self.entries]

    def describe(self) -> dict[str, Any]:
        values = distribution_to_json(self.distributions({})["candidate"])
        return {"candidate": {"path": "candidate", "values": values, "when": {}, "entries": dict(self.entries)}}


class Replication(Study):
    """A study that keeps the weights of every trial: which is promoted is known only when all are trained."""

    def complete(self, record: TrialRecord, trial: optuna.Trial, result: Result, trained: Checkpoint) -> Turns:
        trained.save(network_path(self.folder, record.number))
        yield from super().complete(record, trial, result, trained)


@dataclass(frozen=True)
class Decision:
    """What the gate says, and the evidence for it."""

    better: bool  # than the champion; the first model ever needs not be
    run: str  # the MLflow run of the chosen model
    candidate: str
    verdict: Verdict | None  # None without a champion
    evidence: dict[str, Any]


def run_promotion(
    config: Config,
    overrides: Sequence[str],
    champion: Champion | None,
    *,
    features: Progress = lambda what, done, total: None,
    watch: Callable[[Study, TrialRecord | None], None] = lambda study, record: None,
) -> Decision:
    """Train the study's best configurations and its default anew, choose one on tune, compare it with the champion on holdout.

    Raises StudyError if the study has no complete trial, or nothing that could be trained again.
    """
    study = load_study(config)
    started, trials = study.started, study.trials
    # what a journal says of commands is not heard: it may be somebody else's
    words = [word for word in started.overrides if role_of(key_of(word)) not in (None, COMMAND)]
    _require_same(started, compose(words))
    base = config.with_experiment(compose([*words, *overrides]).experiment)
    searched = started.config["sweep"]["space"]
    space = build_space(base, [*words, *overrides], parse(words)) if searched else Space((), {}, (*words, *overrides), frozenset())
    entries = candidates(base, space, trials, config.promotion.top, started.settings["replicas"])
    if uses_workers(base):  # JAX takes the accelerators when it first computes, and they are the workers'
        start(Path(config.dir) / "cache" / "compiled", platform="cpu")
    against = champion(base) if champion else None  # before minutes of training: what does not fit is said now
    what = hashlib.sha256(json.dumps([started.time, entries], sort_keys=True).encode()).hexdigest()
    count = len(entries) * config.promotion.seeds
    again = retraining_config(config, base, what, count, budget=config.sweep.budget)
    points = Candidates(
        space.parameters, space.fixed, space.overrides, space.groups, entries=tuple(entries.items()), seed=again.seed, home=config
    )
    outcome = run_sweep(
        again, space.overrides, experiment=started.experiment, features=features, watch=watch, space=points, kind=Replication
    )
    require_all(outcome, count)
    return decide(again, points, outcome.trials[:count], against, {"study": config.study, "picked_from": len(trials)})


def retraining_config(config: Config, base: Config, what: str, count: int, **of_sweep: Any) -> Config:
    """Return the study in which ``count`` things of ``what`` are trained anew as ``base`` says, in the place that ``config`` names."""
    # logits are never removed, or asking for fewer seeds would remove what was trained
    kept: dict[str, Any] = {"n_trials": count, "keep": 2**31, "space": {}, "repeats": "replicate"}
    return replace(
        config.with_experiment(base.experiment),
        study=f"{config.study}-promotion-{what[:6]}",
        seed=replicate_seed(what, 0),
        engine="optuna",
        sampler={"_target_": "optuna.samplers.RandomSampler", "name": "random"},
        pruner={"_target_": "optuna.pruners.NopPruner", "name": "none"},
        sweep=replace(base.sweep, **kept, **of_sweep),
    )


def require_all(outcome: SweepResult, count: int) -> None:
    """Raise StudyError if not all trainings are there, here and in MLflow."""
    if outcome.stopped or not outcome.shipped:
        why = outcome.stopped or "MLflow does not have all of it yet"
        raise StudyError(f"{why}: nothing is decided before all {count} trainings are there; the same command goes on")


def candidates(config: Experiment, space: Space, trials: Sequence[TrialRecord], top: int, replicas: int) -> dict[str, Params]:
    """Return the default configuration and the best trials that are not the same as it or one another: name -> parameters."""
    names = objective_names(config)
    complete = [each for each in trials if each.state == "complete" and each.value is not None]
    ranked = sorted(complete, key=lambda each: rank_key(objective_values(each.value or 0.0, each.metrics, names), names))
    found, seen = {DEFAULT: Params()}, {identity(space.config({}), replicas)}
    for record in ranked:
        what = identity(space.config(record.params), replicas)
        if len(found) <= top and what not in seen:
            found[f"trial {record.number}"] = record.params
            seen.add(what)
    return found


def network_path(folder: Path, number: int) -> Path:
    """Return where a replication has the weights of a trial."""
    return folder / "trials" / str(number) / "network.npz"


def load_study(config: Config) -> StudyRecord:
    path = study_folder(config) / "journal.jsonl"
    study = read_study(path.parent)
    if not any(trial.state == "complete" for trial in study.trials):
        raise StudyError(f'the study "{config.study}" has no complete trial in {path.parent}: run it there first')
    return study


def promotion_evidence(config: Config) -> dict[str, str]:
    """Return what may be said of a study's best trial, from its journal; nothing if the journal is not here."""
    folder = study_folder(config)
    study = read_study(folder)
    told = describe_best(folder, study.best, len(study.trials), study.started.objective) if study else None
    return {"flowersweep.claim": told} if told else {}


def _require_same(started: StudyStarted, now: Config) -> None:
    """Raise StudyError if the study's own words do not mean any more what they meant, since ``conf`` or ``sweeps`` have changed."""
    old = {path: value for path, value in started.settings.items() if role_of(path) is TRAINED}
    new = json.loads(json.dumps(settings_with_role(now, TRAINED)))
    if changed := describe_changes(old, new):
        raise StudyError(f"the study was begun with other settings than its words mean now ({'; '.join(changed)}): take the changes back")


def decide(
    config: Config, points: Candidates, trials: Sequence[TrialRecord], against: np.ndarray | None, known: dict[str, Any]
) -> Decision:
    """Choose a candidate on tune, compare it with the champion on holdout, and log the model of its best seed."""
    folder, maximize = study_folder(config), direction(config.sweep.objective) == "maximize"
    by_name = {name: [trial for trial in trials if trial.params["candidate"] == name] for name, _ in points.entries}
    complete = {name: [trial for trial in of if trial.state == "complete"] for name, of in by_name.items()}
    kept = {name: [_kept(folder, trial) for trial in of] for name, of in complete.items() if of}
    if all(len(of) < 2 for of in kept.values()):
        raise StudyError(f"too few trainings of {config.study} were completed to decide; the reasons: status study={config.study}")
    found = [_candidate(name, complete[name], kept[name], points) for name in kept]
    chosen = found[select_one_se(found, maximize=maximize)]
    best = (max if maximize else min)(complete[chosen.name], key=lambda trial: trial.value or 0.0)
    labels = kept[chosen.name][0]["holdout_labels"]
    verdict = None if against is None else compare_with_champion(chosen.holdout, against, labels, [each.holdout for each in found])
    evidence = {
        **known,
        "chosen": chosen.name,
        "trial": best.number,
        "settings": {**points.settings(best.params), "seed": points.trained(best).seed},
        "rule": f"simplest within one standard error of the best mean {config.sweep.objective} over {len(chosen.tune)} seeds on tune",
        "objective": config.sweep.objective,
        "candidates": [_told(each, complete[each.name]) for each in found],
        "images": {"tune": len(kept[chosen.name][0]["tune_labels"]), "holdout": len(labels)},
        "promoted": _promoted(kept[chosen.name][complete[chosen.name].index(best)], against),
        "against_champion": None if verdict is None else {"metric": "holdout/macro_f1", "confidence": 0.95, **to_dict(verdict)},
    }
    workshop = TrainingContext(
        start(Path(config.dir) / "cache" / "compiled"), Path(config.dir) / "cache", lambda *_: None, config.trusted_modules
    )
    run = log_network(replace(points.trained(best), study=config.study), best.number, points.model(best, folder, workshop), workshop)
    return Decision(verdict is None or verdict.better, run, chosen.name, verdict, evidence)


def _candidate(name: str, trials: Sequence[TrialRecord], kept: Sequence[Mapping[str, np.ndarray]], points: Candidates) -> Candidate:
    return Candidate(
        name, points.changes(name), [trial.value or 0.0 for trial in trials], [each["holdout"].astype(np.float32) for each in kept]
    )


def _promoted(kept: Mapping[str, np.ndarray], against: np.ndarray | None) -> dict[str, Any]:
    """What the one model that is registered has on holdout: its accuracy with Wilson's interval, and McNemar's test with the champion."""
    logits, labels = kept["holdout"].astype(np.float32), kept["holdout_labels"]
    right = accuracy(logits, labels)
    test = None if against is None else mcnemar(logits.argmax(axis=1), against.argmax(axis=1), labels)._asdict()
    return {"holdout/accuracy": right, "interval": [*wilson(round(right * len(labels)), len(labels))], "mcnemar": test}


def _kept(folder: Path, trial: TrialRecord) -> dict[str, np.ndarray]:
    with np.load(folder / "trials" / str(trial.number) / "logits.npz") as file:
        return {name: file[name] for name in ("holdout", "holdout_labels", "tune_labels")}


def _told(candidate: Candidate, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "changes": candidate.changes,
        "tune": [float(value) for value in candidate.tune],
        "holdout/macro_f1": [trial.metrics["holdout/macro_f1"] for trial in trials],
    }
