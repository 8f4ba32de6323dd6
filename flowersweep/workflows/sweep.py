"""One sweep from a composed configuration to its best model: everything is checked first, then trained, tracked and kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from flowersweep.config.compose import parse
from flowersweep.config.keys import is_within
from flowersweep.config.schema import Config
from flowersweep.config.targets import require_called
from flowersweep.config.validation import uses_threads
from flowersweep.ensemble.analysis import EnsembleAnalysis
from flowersweep.ensemble.members import Members, load_members
from flowersweep.ensemble.pooling import Pooling, require_images, with_weights
from flowersweep.errors import ConfigError, StudyError
from flowersweep.execution.devices import start_runtime, start_workers
from flowersweep.execution.multihost import END, SHARE, broadcast_command, run_follower
from flowersweep.execution.pool import WorkerPool
from flowersweep.execution.threads import Threads
from flowersweep.runtime import low_latency_gc
from flowersweep.search.compatibility import open_or_verify, study_folder
from flowersweep.search.loop import TrialLoop
from flowersweep.search.samplers.factory import make_pruner, make_sampler
from flowersweep.search.samplers.keras_tuner.oracle import require
from flowersweep.search.state import Study
from flowersweep.space.designs import feasible_share
from flowersweep.space.space import Space, build_space, require_step
from flowersweep.study.claim import describe_best
from flowersweep.study.events import StudyStopped
from flowersweep.study.journal import Journal
from flowersweep.study.records import StudyRecord, TrialRecord
from flowersweep.training.context import TrainingContext
from flowersweep.training.features import Progress
from flowersweep.workflows.journal_subscribers import JournalSubscribers
from flowersweep.workflows.model_logging import log_best
from flowersweep.workflows.planning.forecast import known_refusal


@dataclass(frozen=True)
class SweepResult:
    """What a sweep gave: its Optuna study, its trials, and the best of them."""

    study: optuna.Study
    trials: list[TrialRecord]
    best: TrialRecord | None
    compiled: dict[int, int]  # trial -> programs compiled while it ran, of the trials that this process ran
    shipped: bool  # whether MLflow has everything
    claim: str  # what may be said of the best trial, with its interval
    findings: EnsembleAnalysis | None = None  # of an ensemble
    minutes: float = 0.0  # that the study has run, over all commands
    forecast: float | None = None  # the minutes that were expected
    stopped: str | None = None  # why it ended before its last trial


def run_sweep(
    config: Config,
    overrides: Sequence[str],
    *,
    experiment: str | None = None,
    features: Progress = lambda what, done, total: None,
    watch: Callable[[Study, TrialRecord | None], None] = lambda study, record: None,
    space: Space | None = None,
    kind: type[Study] = Study,
) -> SweepResult:
    """Run a sweep, or go on with it; the same command twice does nothing the second time.

    ``experiment`` is MLflow's folder of runs, named after the study unless given.
    ``features`` is told of images whose features are computed, ``watch`` of every step of a trial. ``space`` and ``kind`` are those
    of a study that is not a sweep's, whose models are not logged here.
    Raises ConfigError, DataError or StudyError before anything is trained.
    """
    members = load_members(config)
    config, words = with_weights(config, overrides, members) if members else (config, tuple(overrides))
    sweep, space = space is None, space or build_space(config, words, parse(overrides))
    _require_sound(config, space, overrides if sweep else None)
    with contextlib.ExitStack() as open_:
        journal = open_.enter_context(Journal(study_folder(config) / "journal.jsonl"))
        crew, runtime = start_workers(config, journal, open_, trains=not members)
        workshop = TrainingContext(runtime, Path(config.dir) / "cache", features, config.trusted_modules)
        _require_networks(config, space, members, workshop)
        if not journal.events and (refusal := known_refusal(config, workshop)):
            raise ConfigError(refusal)
        open_or_verify(journal, config, experiment or str(config.study), space, overrides, workshop)
        followers = JournalSubscribers(config, journal, open_)

        def wake(record: TrialRecord | None) -> None:
            watch(study, record)
            last = record is not None and record.number == config.sweep.n_trials - 1 and not record.reports
            followers.wake(soon=last)  # what has ended by now need not wait for the last trial

        opened = config, space, journal, workshop, wake
        beside = open_.enter_context(Threads(workshop, config.sweep.workers, StudyRecord(journal.events))) if uses_threads(config) else None
        study = Pooling(*opened, members) if members else kind(*opened, executor=crew or beside)
        _share(study, crew)
        wake(None)
        flights = _run_loop(study, followers)
        return _outcome(flights, _finish_shipping(study, followers, sweep))


def _require_sound(config: Config, space: Space, overrides: Sequence[str] | None) -> None:
    """Raise ConfigError if a sweep cannot be what it was asked to be; ``overrides`` are None where its points were chosen before."""
    for spec in (config.sampler, config.pruner):
        require_called(spec, config.trusted_modules)
    if overrides is not None:
        require(config, space, parse(overrides))
        space.require_possible()
    require_step(config)
    feasible_share(space)
    for number in {min(1, config.sweep.n_trials - 1), config.sweep.n_trials - 1}:
        make_sampler(config, number, space)  # a package that is missing, or a grid that is too small; the second may begin with a recipe
    make_pruner(config)


def _require_networks(config: Config, space: Space, members: Members | None, workshop: TrainingContext) -> None:
    """Raise what is wrong with the images of the members, or with a network that may be trained."""
    if members:
        require_images(members, workshop.dataset(config.data).digest, config.data.split_seed)
        return
    for model in space.choices("model"):
        workshop.classifier(space.config(model))  # what is wrong with it is said before anything is written


def _share(study: Study, crew: WorkerPool | None) -> None:
    """Prepare what all trials share before the first of them, so that none waits for features."""
    common = not isinstance(study, Pooling) and not any(is_within(each.path, "model", "data") for each in study.space.parameters)
    if study.remaining and common and not study.clock.over and (crew is None or crew.local):
        broadcast_command(study.workshop.runtime, SHARE, {})
        study.workshop.precompute_features(study.config)


def _run_loop(study: Study, followers: JournalSubscribers) -> TrialLoop:
    """Run the trials that are left."""
    flights = TrialLoop(study)
    with _ended_in_order(flights), low_latency_gc():
        flights.run()
        followers.sample()
    return flights


def _finish_shipping(study: Study, followers: JournalSubscribers, sweep: bool) -> bool:
    """Return whether MLflow has everything, the best model of a sweep among it; then the other hosts may go."""
    shipped = followers.drain()
    if sweep and shipped and study.config.tracking.enabled:
        log_best(study)
    broadcast_command(study.workshop.runtime, END)
    return shipped


@contextlib.contextmanager
def _ended_in_order(flights: TrialLoop) -> Iterator[None]:
    """Journal how the run of a study ended, so that its records do not stay open."""
    study = flights.study
    try:
        yield
    except BaseException:
        with contextlib.suppress(StudyError):  # the disk may be full
            study.write(StudyStopped(state="interrupted", best=study.best.number if study.best else None))
        raise
    study.write(StudyStopped(state="interrupted" if flights.stopped else "finished", best=study.best.number if study.best else None))


def _outcome(flights: TrialLoop, shipped: bool) -> SweepResult:
    study = flights.study
    return SweepResult(
        study.optuna,
        study.trials,
        study.best,
        flights.compiled,
        shipped,
        describe_best(study.folder, study.best, len(study.trials), study.config.sweep.objective),
        study.findings() if isinstance(study, Pooling) else None,
        study.clock.minutes,
        flights.forecast,
        flights.stopped,
    )


def run_follower_host(config: Config, overrides: Sequence[str]) -> bool:
    """Return False on the host that keeps the study; on another host of a cluster compute with it until it has ended, and return True."""
    if config.cluster.coordinator is None or start_runtime(config).host == 0:
        return False
    workshop = TrainingContext(start_runtime(config), Path(config.dir) / "cache", lambda what, done, total: None, config.trusted_modules)
    run_follower(build_space(config, overrides, parse(overrides)), workshop)
    return True
