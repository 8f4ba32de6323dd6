"""From a study to a champion: its best configurations are trained anew with fresh seeds, and the
gate decides.

What is trained is a study of its own next to the first, ``NAME-promotion-...``, with the same
coordinator, journal and tracking: killed, it goes on, and asked again it trains nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json

from flowersweep.config.compose import compose, parse, require_own_images
from flowersweep.config.keys import is_within, key_of, role_of, says, settings_with_role
from flowersweep.config.paths import Settings, differences_from
from flowersweep.config.said import USUAL
from flowersweep.config.schema import COMMAND, TRAINED, Config, Experiment
from flowersweep.config.validation import uses_workers
from flowersweep.errors import StudyError, TrackingError
from flowersweep.evaluation.gate import (
    Candidate,
    Verdict,
    compare_with_champion,
    compare_with_chance,
    select_one_se,
    to_dict,
)
from flowersweep.evaluation.scores import accuracy
from flowersweep.evaluation.statistics import mcnemar, wilson
from flowersweep.runtime import start
from flowersweep.search.compatibility import describe_changes, study_folder
from flowersweep.search.duplicates import replicate_seed
from flowersweep.search.state import Study
from flowersweep.search.trial_store import KEEP_ALL, network_path
from flowersweep.search.work import TrainTrial
from flowersweep.space.constraints import Constraint
from flowersweep.space.space import Parameter, Params, Space, build_space
from flowersweep.study.baselines import compare_with_baselines
from flowersweep.study.claim import describe_best
from flowersweep.study.events import StudyStarted
from flowersweep.study.objectives import direction, objective_names, rank_key
from flowersweep.study.records import StudyRecord, TrialRecord, ranked_records, read_study
from flowersweep.tracking.shipper import run_ids
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.features import Progress
from flowersweep.training.identity import identity
from flowersweep.training.trial import build_keras_model
from flowersweep.util.arrays import read_arrays
from flowersweep.workflows.model_logging import log_network
from flowersweep.workflows.sweep import SweepResult, run_study

DEFAULT = "default"
# words of a study that its promotion does not repeat: they could run code or reach other machines
# what a journal says of who trains, and must not


class CountComparison(Protocol):
    """Note a comparison before it is made; return its number on these held-out images, from 1."""

    def __call__(self, *, challenger: str) -> int:
        """``challenger``: what is compared with the opponent."""


@dataclass(frozen=True)
class Opponent:
    """What a candidate is compared with on one configuration's held-out images: the champion, or
    chance alone if there is none.
    """

    run: str | None
    logits: np.ndarray | None  # (n, K) on holdout
    count_comparison: CountComparison
    note: str | None = None  # why there is none, although the registry has a champion


Champion = Callable[[Config], Opponent]


@dataclass(frozen=True)
class Candidates:
    """Configurations that were chosen before, as the source of a study.

    See `search.source.TrialSource`.
    """

    space: Space  # of the study that they come from
    entries: dict[str, Params]  # name -> point of that space
    seed: int  # another than the first study's
    home: Config  # where the folder and the store are
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
        return replace(
            self.space.config(self.entries[params.get("candidate", DEFAULT)]), seed=self.seed
        )

    def settings(self, params: Params) -> Settings:
        """Return where a candidate differs from the default."""
        return differences_from(self.space.base, self.config(params))

    def choices(self, path: str) -> list[Params]:
        """Return every candidate."""
        return [{"candidate": name} for name in self.entries]

    def describe(self) -> dict[str, Any]:
        """Return the candidates as plain data."""
        values = distribution_to_json(self.distributions({})["candidate"])
        return {
            "candidate": {
                "path": "candidate",
                "values": values,
                "when": {},
                "entries": self.entries,
            }
        }

    def trained_config(self, record: TrialRecord) -> Config:
        """Return the configuration that a trial was trained with."""
        config = self.home.with_experiment(self.config(record.params).experiment)
        return config if record.seed is None else replace(config, seed=record.seed)

    def build_model(self, record: TrialRecord, folder: Path, context: TrainingContext) -> Any:
        """Return the trained network of a trial as a Keras model."""
        checkpoint = Checkpoint.load(network_path(folder, record.number))
        return build_keras_model(self.trained_config(record), checkpoint, context)

    def changes(self, name: str) -> int:
        """Return how many settings of a candidate differ from the default."""
        return len({**self.settings({"candidate": name}), "seed": 0}) - 1


class Retrained(Protocol):
    """A source whose trials were trained to be promoted."""

    @property
    def entries(self) -> Mapping[str, Any]:
        """The candidates by name."""

    def settings(self, params: Params) -> Settings: ...

    def changes(self, name: str) -> int:
        """Return how much more a candidate is than the simplest."""

    def trained_config(self, record: TrialRecord) -> Config: ...

    def build_model(self, record: TrialRecord, folder: Path, context: TrainingContext) -> Any: ...


@dataclass(frozen=True)
class Decision:
    """What the gate says, and the evidence for it."""

    better: bool  # than chance, and than the champion if there is one
    run: str  # the MLflow run of the chosen model
    candidate: str
    verdict: Verdict | None  # None without a champion
    evidence: dict[str, Any]
    params: Params | None = None  # of the candidate in its study's space; None: an ensemble's


def run_promotion(
    config: Config,
    overrides: Sequence[str],
    champion: Champion | None,
    *,
    features: Progress = lambda what, done, total: None,
    watch: Callable[[Study, TrialRecord | None], None] = lambda study, record: None,
) -> Decision:
    """Train the study's best configurations and its default anew, choose one on tune, compare it
    with the champion on holdout.

    Raises StudyError if the study has no complete trial, or nothing that could be trained again.
    """
    study = load_study(config)
    started, trials = study.started, study.trials
    base, space = _searched(config, started, overrides)
    names = objective_names(base)
    ranked = ranked_for(trials, names, study.objectives)
    entries = candidates(base, space, ranked, config.promotion.top, started.settings["replicas"])
    # JAX takes the accelerators when it first computes, and they are the workers'
    if uses_workers(base):
        start(Path(config.dir) / "cache" / "compiled", platform="cpu")
    # before minutes of training: what does not fit is said now
    against = champion(base) if champion else None
    what = hashlib.sha256(
        json.dumps([started.time, entries, names], sort_keys=True).encode()
    ).hexdigest()
    count = len(entries) * config.promotion.seeds
    again = retraining_config(config, base, what, count, budget=config.sweep.budget)
    points = Candidates(space, entries, again.seed, base)
    outcome = run_study(
        again,
        space.overrides,
        points,
        TrainTrial(keep_networks=True),
        experiment=started.experiment,
        features=features,
        watch=watch,
    )
    require_all(outcome, count)
    decision = decide(
        again,
        points,
        outcome.trials[:count],
        against,
        {"study": config.study, "picked_from": len(trials)},
    )
    evidence = {**decision.evidence, "baselines": _baselines(config, again, decision)}
    return replace(decision, params=entries[decision.candidate], evidence=evidence)


def _baselines(config: Config, again: Config, decision: Decision) -> str | None:
    """Say how the chosen training compares with the baselines of the study that it comes from."""
    path = study_folder(again) / "trials" / str(decision.evidence["trial"]) / "logits.npz"
    arrays = read_arrays(path)
    return compare_with_baselines(study_folder(config), arrays["holdout"], arrays["holdout_labels"])


def refit(
    config: Config,
    overrides: Sequence[str],
    params: Params,
    *,
    features: Progress = lambda what, done, total: None,
    watch: Callable[[Study, TrialRecord | None], None] = lambda study, record: None,
) -> str:
    """Train a chosen configuration on train and val together; return the MLflow run of its model.

    The study of this one training goes on after a kill. What the model is worth is known from its
    siblings alone, which have not seen val.

    Raises:
        StudyError: The training failed.
    """
    started = load_study(config).started
    base, space = _searched(config, started, [*overrides, "data.train_on=all"])
    what = hashlib.sha256(
        json.dumps([started.time, params, "refit"], sort_keys=True).encode()
    ).hexdigest()
    again = retraining_config(config, base, what, 1, budget=config.sweep.budget)
    again = replace(again, study=f"{config.study}-refit-{what[:6]}")
    points = Candidates(space, {"refit": params}, again.seed, base)
    outcome = run_study(
        again,
        space.overrides,
        points,
        TrainTrial(keep_networks=True),
        experiment=started.experiment,
        features=features,
        watch=watch,
    )
    require_all(outcome, 1)
    trial = outcome.trials[0]
    if trial.state != "complete":
        raise StudyError(
            f"the training on all images failed, see `status study={again.study}`; "
            "promotion.refit=false registers a model of the trainings before it"
        )
    context = _context(again)
    return log_network(
        replace(points.trained_config(trial), study=again.study),
        trial.number,
        points.build_model(trial, study_folder(again), context),
        context,
    )


def _searched(
    config: Config, started: StudyStarted, overrides: Sequence[str]
) -> tuple[Config, Space]:
    """Return the configuration and the space of a study, with words that come on top."""
    words = journal_words(started.overrides)
    _require_same(started, compose(words))
    composed = compose([*words, *overrides])
    if not says(overrides, "data", "data.dir", "data.fetch"):
        require_own_images(composed.data)
    base = config.with_experiment(composed.experiment)
    if not started.config["sweep"]["space"]:
        return base, Space((), {}, (*words, *overrides), frozenset())
    return base, build_space(base, [*words, *overrides], parse(words))


def journal_words(overrides: Sequence[str]) -> list[str]:
    """Return the words that a study was started with, less those that a journal, which may be
    somebody else's, must not say.

    Which modules and which cluster are trusted, and where else configurations lie, is for the
    command to say.
    """
    keys = zip(overrides, map(key_of, overrides), strict=True)
    return [
        word
        for word, key in keys
        if role_of(key) not in (None, COMMAND) and not is_within(key, *USUAL)
    ]


def retraining_config(
    config: Config, base: Config, what: str, count: int, **of_sweep: Any
) -> Config:
    """Return the study in which ``count`` things of ``what`` are trained anew as ``base`` says;
    ``config`` names the first study.
    """
    # logits are never removed, or asking for fewer seeds would remove what was trained
    settings: dict[str, Any] = {
        "n_trials": count,
        "save_predictions_of_best": KEEP_ALL,
        "space": {},
        "on_duplicate": "new_seed",
        "import_from": [],
    }
    return replace(
        base,
        study=f"{config.study}-promotion-{what[:6]}",
        seed=replicate_seed(what, 0),
        engine="optuna",
        sampler={"_target_": "optuna.samplers.RandomSampler", "name": "random"},
        pruner={"_target_": "optuna.pruners.NopPruner", "name": "none"},
        sweep=replace(base.sweep, **settings, **of_sweep),
    )


def require_all(outcome: SweepResult, count: int) -> None:
    """Raise StudyError if not all trainings are there, here and in MLflow."""
    if outcome.stopped or not outcome.shipped:
        why = outcome.stopped or "MLflow does not have all of it yet"
        raise StudyError(
            f"{why}: nothing is decided before all {count} trainings are there; the same "
            "command goes on"
        )


def candidates(
    config: Experiment, space: Space, ranked: Sequence[TrialRecord], top: int, replicas: int
) -> dict[str, Params]:
    """Return the default configuration and the best of ``ranked`` trials, none of them twice: name
    -> parameters.
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
    """Return the complete trials, the best first by the objectives ``names``, whichever the study
    had.

    Raises:
        StudyError: a complete trial does not have one of these metrics.
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


def load_study(config: Config) -> StudyRecord:
    path = study_folder(config) / "journal.jsonl"
    study = read_study(path.parent)
    if not any(trial.state == "complete" for trial in study.trials):
        raise StudyError(
            f'the study "{config.study}" has no complete trial in {path.parent}: run it there first'
        )
    return study


def best_run(config: Config) -> str | None:
    """Return the MLflow run of a study's best trial by its journal; None if that is not here.

    Not by the study's name: another study of that name may be in the same store.

    Raises StudyError or TrackingError if there is no such trial, or no run of it.
    """
    folder = study_folder(config)
    if not read_study(folder):
        return None
    best = load_study(config).best
    runs = run_ids(folder / "journal.jsonl", config.tracking, Path(config.dir)).trials
    if best is None or best.number not in runs:
        number = "the best trial" if best is None else f"trial {best.number}"
        raise TrackingError(
            f"MLflow has no run of {number} of the study {config.study}. Send it: sync "
            f"study={config.study}. If its run was deleted, restore it"
        )
    return runs[best.number]


def promotion_evidence(config: Config) -> dict[str, str]:
    """Return what may be said of a study's best trial, from its journal; nothing if the journal is
    not here.
    """
    folder = study_folder(config)
    study = read_study(folder)
    best = (
        describe_best(folder, study.best, len(study.trials), study.started.objective)
        if study
        else None
    )
    return {"flowersweep.claim": best} if best else {}


def _require_same(started: StudyStarted, now: Config) -> None:
    """Raise StudyError if the study's own words do not mean any more what they meant, since
    ``conf`` or ``sweeps`` have changed.
    """
    old = {path: value for path, value in started.settings.items() if role_of(path) is TRAINED}
    new = json.loads(json.dumps(settings_with_role(now, TRAINED)))
    if now.data.folds is None:  # the study chose them
        new["data.folds"] = old.get("data.folds")
    if changed := describe_changes(old, new):
        raise StudyError(
            "the study was started with other settings than its words mean now "
            f"({'; '.join(changed)}): take the changes back"
        )


def decide(
    config: Config,
    points: Retrained,
    trials: Sequence[TrialRecord],
    against: Opponent | None,
    known: dict[str, Any],
) -> Decision:
    """Choose a candidate on tune, compare it with chance and the champion on holdout, and log the
    model of its best seed.
    """
    folder, maximize = study_folder(config), direction(config.sweep.objective) == "maximize"
    by_name = {
        name: [trial for trial in trials if trial.params["candidate"] == name]
        for name in points.entries
    }
    complete = {
        name: [trial for trial in of if trial.state == "complete"] for name, of in by_name.items()
    }
    logits = {name: [_kept(folder, trial) for trial in of] for name, of in complete.items() if of}
    if all(len(of) < 2 for of in logits.values()):
        raise StudyError(
            f"too few trainings of {config.study} were completed to decide; the reasons: "
            f"status study={config.study}"
        )
    candidates = [_candidate(name, complete[name], logits[name], points) for name in logits]
    chosen = candidates[select_one_se(candidates, maximize=maximize)]
    best = (max if maximize else min)(complete[chosen.name], key=lambda trial: trial.value or 0.0)
    labels = logits[chosen.name][0]["holdout_labels"]
    context = _context(config)
    run = log_network(
        replace(points.trained_config(best), study=config.study),
        best.number,
        points.build_model(best, folder, context),
        context,
    )
    verdict, opposed, comparison = None, against.logits if against else None, 1
    if against is not None and run != against.run:  # itself is no challenger
        challenger = f"run {run}, of {len(trials)} trainings"
        comparison = against.count_comparison(challenger=challenger)
    chance = compare_with_chance(chosen.holdout, labels, comparison=comparison)
    if opposed is not None:
        seeds = [each.holdout for each in candidates]
        verdict = compare_with_champion(
            chosen.holdout, opposed, labels, seeds, comparison=comparison
        )
    evidence = {
        **known,
        "chosen": chosen.name,
        "trial": best.number,
        "settings": {**points.settings(best.params), "seed": points.trained_config(best).seed},
        "rule": (
            f"simplest within one standard error of the best mean {config.sweep.objective} over "
            f"{len(chosen.tune)} seeds on tune"
        ),
        "objective": config.sweep.objective,
        "candidates": [_told(each, complete[each.name]) for each in candidates],
        "images": {"tune": len(logits[chosen.name][0]["tune_labels"]), "holdout": len(labels)},
        "promoted": _promoted(
            logits[chosen.name][complete[chosen.name].index(best)],
            opposed,
        ),
        "against_chance": {"metric": "holdout/macro_f1", **to_dict(chance)},
        **({"no_champion": against.note} if against and against.note else {}),
        "against_champion": None
        if verdict is None
        else {"metric": "holdout/macro_f1", **to_dict(verdict)},
    }
    better = chance.better and (verdict is None or verdict.better)
    return Decision(better, run, chosen.name, verdict, evidence)


def _context(config: Config) -> TrainingContext:
    cache = Path(config.dir) / "cache"
    runtime = start(cache / "compiled")
    return TrainingContext(runtime, cache, lambda *_: None, config.trusted_modules)


def _candidate(
    name: str,
    trials: Sequence[TrialRecord],
    logits: Sequence[Mapping[str, np.ndarray]],
    points: Retrained,
) -> Candidate:
    return Candidate(
        name,
        points.changes(name),
        [trial.value or 0.0 for trial in trials],
        [each["holdout"].astype(np.float32) for each in logits],
    )


def _promoted(arrays: Mapping[str, np.ndarray], against: np.ndarray | None) -> dict[str, Any]:
    """What the one model that is registered has on holdout: its accuracy with Wilson's interval,
    and McNemar's test with the champion.
    """
    logits, labels = arrays["holdout"].astype(np.float32), arrays["holdout_labels"]
    right = accuracy(logits, labels)
    test = (
        None
        if against is None
        else mcnemar(logits.argmax(axis=1), against.argmax(axis=1), labels)._asdict()
    )
    return {
        "holdout/accuracy": right,
        "interval": [*wilson(round(right * len(labels)), len(labels))],
        "mcnemar": test,
    }


def _kept(folder: Path, trial: TrialRecord) -> dict[str, np.ndarray]:
    arrays = read_arrays(folder / "trials" / str(trial.number) / "logits.npz")
    return {name: arrays[name] for name in ("holdout", "holdout_labels", "tune_labels")}


def _told(candidate: Candidate, trials: Sequence[TrialRecord]) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "changes": candidate.changes,
        "tune": [float(value) for value in candidate.tune],
        "holdout/macro_f1": [trial.metrics["holdout/macro_f1"] for trial in trials],
    }
