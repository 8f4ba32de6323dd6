"""One sweep from a composed configuration to its best model: everything is checked first, then trained, tracked and kept."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from flowersweep import trial as one
from flowersweep.compose import composed, parse
from flowersweep.config import Config, Settings, differences, flatten, several
from flowersweep.data.pipeline import read_images
from flowersweep.errors import ConfigError, StudyError
from flowersweep.journal import Event, Journal, read
from flowersweep.machine import Sampler
from flowersweep.provenance import code, diff, provenance
from flowersweep.runtime import Runtime, start, undisturbed
from flowersweep.search.ensemble import Pooling, require_images, with_weights
from flowersweep.search.executors import Crew, Setting
from flowersweep.search.findings import Findings
from flowersweep.search.forecast import known_refusal
from flowersweep.search.history import Record, best, claim, pruner, records, sampler
from flowersweep.search.hosts import END, SHARE, follow, order
from flowersweep.search.members import members_of
from flowersweep.search.mirror import Mirror
from flowersweep.search.objectives import direction
from flowersweep.search.oracles import require
from flowersweep.search.points import feasible_share
from flowersweep.search.space import Space, space_of
from flowersweep.search.study import Study
from flowersweep.targets import arguments, resolve
from flowersweep.tracking.masking import masked, masked_text
from flowersweep.tracking.registry import log_model
from flowersweep.tracking.shipment import Shipment
from flowersweep.tracking.shipper import Shipper, run_ids
from flowersweep.tracking.store import address, client
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.features import Progress
from flowersweep.training.workshop import Workshop

# a study goes on whatever these are: they do not change what a trial means
FREE = (
    "topology",
    "cluster",
    "executor",
    "data.dir",
    "data.cache_bytes",
    "data.disk_cache_bytes",
    "verb",
    "study",
    "studies",
    "run",
    "alias",
    "version",
    "split",
    "output",
    "views",
    "port",
    "dir",
    "progress",
    "promotion",
    "force",
    "reason",
    "tracking",
    "sweep.n_trials",
    "sweep.mirror",
    "sweep.keep",
    "sweep.workers",
    "sweep.budget",
    "train.checkpoint_seconds",
)


@dataclass(frozen=True)
class Outcome:
    """What a sweep gave: its Optuna study, its trials, and the best of them."""

    study: optuna.Study
    trials: list[Record]
    best: Record | None
    compiled: dict[int, int]  # trial -> programs compiled while it ran, of the trials that this process ran
    shipped: bool  # whether MLflow has everything
    claim: str  # what may be said of the best trial, with its interval
    findings: Findings | None = None  # of an ensemble
    minutes: float = 0.0  # that the study has run, over all commands
    forecast: float | None = None  # the minutes that were expected
    stopped: str | None = None  # why it ended before its last trial


def search(
    config: Config,
    overrides: Sequence[str],
    *,
    experiment: str | None = None,
    features: Progress = lambda what, done, total: None,
    watch: Callable[[Study, Record | None], None] = lambda study, record: None,
    space: Space | None = None,
    kind: type[Study] = Study,
) -> Outcome:
    """Run a sweep, or go on with it; the same command twice does nothing the second time.

    ``experiment`` is MLflow's folder of runs, named after the study unless given.
    ``features`` is told of images whose features are computed, ``watch`` of every step of a trial. ``space`` and ``kind`` are those
    of a study that is not a sweep's, whose models are not logged here.
    Raises ConfigError, DataError or StudyError before anything is trained.
    """
    members = members_of(config)
    config, words = with_weights(config, overrides, members) if members else (config, tuple(overrides))
    sweep, space = space is None, space or space_of(config, words, parse(overrides))
    for spec in (config.sampler, config.pruner, config.optimizer, config.loss, config.schedule, config.augment):
        if spec.get("_target_"):
            resolve(spec, config.trusted_modules)
    if sweep:
        require(config, space, parse(overrides))
    feasible_share(space)
    sampler(config, config.sweep.n_trials - 1, space)  # a package that is missing, or a grid that is too small
    pruner(config)
    dir = Path(config.dir)
    with contextlib.ExitStack() as open_:
        journal = open_.enter_context(Journal(folder_of(config) / "journal.jsonl"))
        crew = None if members else _crew(config, journal)
        runtime = _with_workers(config, open_.enter_context(crew) if crew else None, journal) if several(config) else _begun(config)
        workshop = Workshop(runtime, dir / "cache", features, config.trusted_modules)
        if members:
            require_images(members, workshop.dataset(config.data).digest, config.data.split_seed)
        common = not members and not any(parameter.path.startswith(("model", "data")) for parameter in space.parameters)
        for model in [] if members else space.choices("model"):
            workshop.require_networks(space.config(model))  # what is wrong with it is said before anything is written
        _begin(journal, config, experiment or str(config.study), space, overrides, workshop)
        shipper = open_.enter_context(Shipper(Shipment(journal.path, config.tracking, dir))) if config.tracking.enabled else None
        mirror = open_.enter_context(Shipper(Mirror(journal.path, config.sweep.mirror))) if config.sweep.mirror else None

        machine = Sampler(journal.path.parent)

        def wake(record: Record | None) -> None:
            watch(study, record)
            if machine.due:
                journal.append("machine", metrics=machine.sample())
            for follower in (shipper, mirror):
                if follower:
                    follower.wake()

        opened = config, space, journal, workshop, wake
        study = Pooling(*opened, members) if members else kind(*opened, executor=crew)
        if study.remaining and common and not study.clock.over and (crew is None or crew.local):
            order(workshop.runtime, SHARE, {})
            workshop.prepare(config)  # before the first trial, so that none of them waits for features
        wake(None)
        with _ended_in_order(study), undisturbed():
            study.run()
            journal.append("machine", metrics=machine.sample())
        shipped = shipper is None or shipper.drain(None)
        if shipper and shipped and sweep:
            _log_model(study)
        order(workshop.runtime, END)
        return Outcome(
            study.optuna,
            study.trials,
            study.best,
            study.compiled,
            shipped,
            claim(study.folder, study.best, len(study.trials), config.sweep.objective),
            study.findings() if isinstance(study, Pooling) else None,
            study.clock.minutes,
            study.forecast,
            study.stopped,
        )


def followed(config: Config, overrides: Sequence[str]) -> bool:
    """Return False on the host that keeps the study; on another host of a cluster compute with it until it has ended, and return True."""
    if config.cluster.coordinator is None or _begun(config).host == 0:
        return False
    workshop = Workshop(_begun(config), Path(config.dir) / "cache", lambda what, done, total: None, config.trusted_modules)
    follow(space_of(config, overrides, parse(overrides)), workshop)
    return True


def _begun(config: Config, platform: str | None = None) -> Runtime:
    return start(Path(config.dir) / "cache" / "compiled", **asdict(config.cluster), platform=platform)


def _with_workers(config: Config, crew: Crew | None, journal: Journal) -> Runtime:
    """Leave the accelerators to the workers; return what they compute on, as far as a study depends on it."""
    runtime = _begun(config, platform="cpu")
    if crew is None:  # there is nothing to train: what the study was begun on
        settings = journal.events[0]["settings"] if journal.events else {}
        return replace(runtime, replicas=settings.get("replicas", runtime.replicas))
    facts = crew.begun()
    if crew.local and facts.platform != "cpu":
        raise ConfigError(
            f"sweep.workers={config.sweep.workers} shares the cores of this machine, and its {facts.device_kind} belongs to one process: "
            "executor=ray hands devices out, sweep.workers=1 trains in this process, JAX_PLATFORMS=cpu before the command leaves them alone"
        )
    return replace(runtime, platform=facts.platform, device_kind=facts.device_kind, replicas=facts.replicas)


def _crew(config: Config, journal: Journal) -> Crew | None:
    """Return the workers that a study needs, which are not there yet; None if it trains in this process, or nothing is left to train."""
    left = config.sweep.n_trials - sum(record.tell is not None for record in records(journal.events))
    if not several(config) or left < 1:
        return None
    staff = resolve(config.executor, config.trusted_modules)(**arguments(config.executor), workers=config.sweep.workers)
    return Crew(
        staff,
        min(config.sweep.workers, left),
        Setting(os.getcwd(), (*sys.path,), Path(config.dir) / "cache", tuple(config.trusted_modules)),
    )


def evidence(config: Config) -> dict[str, str]:
    """Return what may be said of a study's best trial, from its journal; nothing if the journal is not here."""
    folder = folder_of(config)
    events, _ = read(folder / "journal.jsonl")
    trials = records(events)
    told = claim(folder, best(trials, *_objectives(events[0])), len(trials), events[0]["objective"]) if events else None
    return {"flowersweep.claim": told} if told else {}


def _objectives(study: Event) -> list[str]:
    return study.get("config", {}).get("sweep", {}).get("objectives") or [study["objective"]]


def folder_of(config: Config) -> Path:
    """Return the folder of a configuration's study."""
    return Path(config.dir) / "studies" / str(config.study)


def _begin(journal: Journal, config: Config, experiment: str, space: Space, overrides: Sequence[str], workshop: Workshop) -> None:
    """Verify the images, and open the journal with what the study is; or make sure that it still is the same."""
    dataset = workshop.dataset(config.data)
    if not config.ensemble.members:
        workshop.batch(config)
    meaning = {"space": space.describe(), "settings": {p: v for p, v in flatten(config) if not p.startswith((*FREE, "sweep.space"))}}
    meaning["settings"] |= {"data.digest": dataset.digest, "replicas": workshop.runtime.replicas}
    meaning = json.loads(json.dumps(meaning))
    if not journal.events and (refusal := known_refusal(config, workshop)):
        raise ConfigError(refusal)
    if journal.events:
        _require_same(journal.events[0], meaning, str(config.study))
        journal.append("resume", command=" ".join(overrides), code=code(config.trusted_modules))
        return
    changes = diff()
    if changes is not None:
        (journal.path.parent / "code.diff").write_text(changes)
    journal.append(
        "study",
        study=config.study,
        experiment=experiment,
        seed=config.seed,
        objective=config.sweep.objective,
        direction=direction(config.sweep.objective),
        config=asdict(config),
        overrides=list(overrides),
        provenance=provenance(tuple(overrides), workshop.runtime, dataset, trusted=config.trusted_modules, changes=changes),
        **meaning,
    )


def _require_same(begun: Event, meaning: dict[str, Any], name: str) -> None:
    old, new = (dict(flatten({"space": each["space"], **each["settings"]})) for each in (begun, meaning))
    if changed := moved(old, new):
        raise StudyError(
            f'study "{name}" was begun with other settings ({"; ".join(changed)}). Take them back, or begin another: study=NAME'
        )


def moved(old: Settings, new: Settings) -> list[str]:
    """Return which settings are not what they were. A key that is newer than the study was then what it is where nobody sets it."""
    apart = differences(old, new)
    usual = json.loads(json.dumps(dict(flatten(composed(()))))) if apart else {}
    return [f"{path}: {a!r} -> {b!r}" for path, (a, b) in apart.items() if path in old or b != usual.get(path)]


def _log_model(study: Study) -> None:
    """Log the model of the best trial to its MLflow run, once."""
    best = study.best
    if best is None:
        return
    config = study.configured(best)
    store = masked_text(address(config.tracking, Path(config.dir)))
    if any((event["trial"], event["store"]) == (best.number, store) for event in study.journal.events if event["event"] == "model"):
        return
    if isinstance(study, Pooling):
        model = study.model(best)
    else:
        order(study.workshop.runtime, SHARE, best.params)
        model = one.model_of(config, Checkpoint.load(study.shelf.weights(best)), study.workshop)
    if model is None:
        return
    run = log_network(config, best.number, model, study.workshop)
    study.journal.append("model", trial=best.number, run=run, store=store)


def log_network(config: Config, trial: int, model: Any, workshop: Workshop) -> str:
    """Log a Keras model to the MLflow run of a trial; return the run's id."""
    dataset = workshop.dataset(config.data)
    example = read_images(dataset.splits["val"], [0], model.input_shape[1:3])
    run = run_ids(folder_of(config) / "journal.jsonl", config.tracking, Path(config.dir)).trials[trial]
    facts = {"classes": list(dataset.classes), "data": masked(asdict(config.data)), "study": config.study, "trial": trial}
    log_model(run, model, example, client(config.tracking, Path(config.dir)), facts=facts)
    return run


@contextlib.contextmanager
def _ended_in_order(study: Study) -> Iterator[None]:
    """Journal how the run of a study ended, so that its records do not stay open."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(StudyError):  # the disk may be full
            study.journal.append("stop", state="interrupted", best=study.best.number if study.best else None)
        raise
    study.journal.append("stop", state="interrupted" if study.stopped else "finished", best=study.best.number if study.best else None)
