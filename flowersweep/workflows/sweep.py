"""A sweep from its configuration to its best model: check everything, train, track, keep."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from flowersweep.config import own_functions
from flowersweep.config.compose import parse
from flowersweep.config.files import frozen_files
from flowersweep.config.keys import says
from flowersweep.config.own_functions import OwnFunction
from flowersweep.config.paths import flatten, with_settings
from flowersweep.config.schema import Config
from flowersweep.config.targets import resolve
from flowersweep.config.validation import uses_threads, uses_workers
from flowersweep.data.extra.selection import table_of
from flowersweep.ensemble.analysis import EnsembleAnalysis
from flowersweep.ensemble.members import Members, load_members
from flowersweep.ensemble.pooling import (
    PoolTrial,
    analyse_best,
    first_trials,
    require_images,
    with_weights,
)
from flowersweep.errors import ConfigError, StudyError
from flowersweep.execution.in_process import InProcess
from flowersweep.execution.pool import WorkerPool
from flowersweep.execution.protocol import Executor
from flowersweep.provenance import code, diff, provenance
from flowersweep.report.study_view import LEFT_OUT
from flowersweep.search.compatibility import (
    compared_settings,
    open_or_verify,
    study_folder,
)
from flowersweep.search.loop import TrialLoop
from flowersweep.search.samplers.factory import make_pruner, make_sampler
from flowersweep.search.samplers.keras_tuner.oracle import require
from flowersweep.search.source import TrialSource
from flowersweep.search.state import Study
from flowersweep.search.work import TrainTrial, TrialWork
from flowersweep.space.designs import LARGEST_GRID, feasible_share
from flowersweep.space.space import Space, build_space, require_step
from flowersweep.study.events import StudyStopped
from flowersweep.study.journal import Journal
from flowersweep.study.records import TrialRecord
from flowersweep.study.sentences import describe_best, describe_judging
from flowersweep.tracking.followers.naming import require_run_name
from flowersweep.tracking.followers.sinks import require_followers
from flowersweep.tracking.masking import masked_diff
from flowersweep.tracking.store import experiment_name, require_address
from flowersweep.training.context import TrainingContext
from flowersweep.training.features import Progress
from flowersweep.training.image_trainer import ImageTrainer
from flowersweep.training.multihost import END, SHARE, broadcast_command, run_follower
from flowersweep.util.files import write_bytes
from flowersweep.util.interpreter import low_latency_gc
from flowersweep.workflows.baselines import write_baselines
from flowersweep.workflows.buckets import begin_from_bucket, fetch_studies
from flowersweep.workflows.devices import start_runtime, start_threads, start_workers
from flowersweep.workflows.journal_subscribers import JournalSubscribers
from flowersweep.workflows.model_logging import log_best
from flowersweep.workflows.planning.forecast import known_refusal

Watch = Callable[[Study, TrialRecord | None], None]


@dataclass(frozen=True)
class SweepResult:
    """What a sweep gave: its Optuna study, its trials, and the best of them."""

    study: optuna.Study
    trials: list[TrialRecord]
    best: TrialRecord | None
    # trial -> programs compiled for it, of the trials that this command ran
    compiled: dict[int, int]
    shipped: bool  # MLflow has everything
    claim: str  # what may be said of the best trial, with its interval
    analysis: EnsembleAnalysis | None = None  # of an ensemble
    minutes: float = 0.0  # that the study has run, over all commands
    forecast: float | None = None  # minutes that were expected
    stopped: str | None = None  # why it ended before its last trial
    imported: int = 0  # trials of other studies that its sampler learned from
    judging: str | None = None  # what trials are judged by; None: tune alone


def single_training(
    config: Config, overrides: Sequence[str]
) -> tuple[Config, Sequence[str], str | None]:
    """Return what `run_sweep` takes to train one configuration, as a sweep of one trial.

    Returns:
        The configuration, the words, and MLflow's folder of runs. A hash of the settings names the
        study if the words do not.
    """
    once = replace(config.sweep, n_trials=1, workers=1, space={}, constraints=[])
    single = replace(config, engine="optuna", sweep=once)
    if says(overrides, "study"):
        return single, overrides, None
    settings = json.dumps(compared_settings(single), default=str)
    digest = hashlib.sha256(settings.encode()).hexdigest()
    return replace(single, study=f"train-{digest[:8]}"), overrides, "train"


def run_sweep(
    config: Config,
    overrides: Sequence[str],
    *,
    experiment: str | None = None,
    features: Progress = lambda what, done, total: None,
    watch: Watch = lambda study, record: None,
) -> SweepResult:
    """Run a sweep, or resume it; the same command twice does nothing the second time.

    Args:
        experiment: MLflow's folder of runs; None: named after the study. The variable
            MLFLOW_EXPERIMENT_NAME wins.
        features: Called while features are computed.
        watch: Called when there is something new of a trial.

    Raises:
        ConfigError, DataError, StudyError: Before anything is trained.
    """
    fetch_studies(config, _other_studies(config))
    members = load_members(config, overrides)
    words = tuple(overrides)
    if members:
        config, words = with_weights(config, overrides, members)
        space = build_space(config, words, parse(overrides))
    else:
        config, overrides, space = _searched(config, overrides)
    _require_space(config, space, overrides)
    work = PoolTrial(members) if members else TrainTrial()
    return run_study(
        config,
        overrides,
        space,
        work,
        experiment=experiment_name(experiment),
        members=members,
        features=features,
        watch=watch,
    )


def run_study(
    config: Config,
    overrides: Sequence[str],
    source: TrialSource,
    work: TrialWork,
    *,
    experiment: str | None = None,
    members: Members | None = None,
    features: Progress = lambda what, done, total: None,
    watch: Watch = lambda study, record: None,
) -> SweepResult:
    """Run the trials of a source, or resume them.

    Args:
        source: Where the trials come from; the best model is logged if it is a `Space`.
        work: What each trial does.
        experiment: MLflow's folder of runs; None: named after the study.
        members: The trained trials that are pooled, for a study of an ensemble.
    """
    _require_trials(config, source)
    _require_here(config, source)
    if config.tracking.enabled:
        require_address(config.tracking, Path(config.dir))
    require_followers(config.tracking)
    require_run_name(config.tracking.run_name, [p.name for p in source.parameters])
    with contextlib.ExitStack() as open_:
        bucket = begin_from_bucket(config, open_)
        journal = open_.enter_context(Journal(study_folder(config) / "journal.jsonl"))
        pool, runtime = start_workers(config, journal, open_, trains=members is None)
        cache = Path(config.dir) / "cache"
        context = TrainingContext(runtime, cache, features, config.trusted_modules)
        trainer = ImageTrainer(context)
        _require_networks(config, source, members, context)
        _open_journal(journal, config, overrides, source, trainer, experiment or str(config.study))
        subscribers = JournalSubscribers(config, journal, open_, bucket)

        def wake(record: TrialRecord | None) -> None:
            watch(study, record)
            # what has ended by now need not wait for the last trial
            subscribers.wake(soon=record is not None and _is_last_and_new(record, config))

        study = Study(
            config,
            source,
            journal,
            trainer,
            executor=pool or _executor(config, trainer, journal, open_),
            on_update=wake,
            enqueued=_first_points(members, source, config),
        )
        _prepare(study, pool, context, trains=members is None)
        wake(None)
        loop = TrialLoop(study, work)
        with _stopped_in_order(loop), low_latency_gc(), frozen_files():
            loop.run()
            subscribers.sample()
        return _finish(loop, context, subscribers, members)


def _open_journal(
    journal: Journal,
    config: Config,
    overrides: Sequence[str],
    source: TrialSource,
    trainer: ImageTrainer,
    experiment: str,
) -> None:
    """Journal the first event of a new study, or verify that an old one is still the same."""
    context = trainer.context
    if not journal.events and (refusal := known_refusal(config, context)):
        raise ConfigError(refusal)
    own = [each.source for each in _own_functions(config, source)]
    digest = code(config.trusted_modules, own)
    open_or_verify(
        journal,
        config,
        source,
        trainer,
        experiment=experiment,
        overrides=overrides,
        code=digest,
        provenance=lambda: _provenance(journal, config, overrides, context, digest),
    )


def _is_last_and_new(record: TrialRecord, config: Config) -> bool:
    return record.number == config.sweep.n_trials - 1 and not record.reports


def _finish(
    loop: TrialLoop,
    context: TrainingContext,
    subscribers: JournalSubscribers,
    members: Members | None,
) -> SweepResult:
    """Compare the best trial with baselines, log it, and return what the sweep gave."""
    study, searches = loop.study, isinstance(loop.study.source, Space)
    if searches and members is None:
        write_baselines(study, context)
    shipped = subscribers.drain()
    if searches and shipped and study.config.tracking.enabled:
        log_best(study, context, members)
    broadcast_command(context.runtime, END)
    return _result(loop, shipped, analyse_best(study, members) if members else None)


def _other_studies(config: Config) -> set[str]:
    """Return the studies that a sweep reads."""
    names = [*config.ensemble.members, *config.sweep.import_from]
    return {str(name).partition(":")[0] for name in names}


def _searched(config: Config, overrides: Sequence[str]) -> tuple[Config, Sequence[str], Space]:
    """Return configuration, words and space of a sweep whose trials are all judged alike.

    Fine-tuning is judged by tune. So are the frozen heads of a sweep that searches both.
    """
    space = build_space(config, overrides, parse(overrides))
    paths = {parameter.path for parameter in space.parameters}
    if config.data.folds is None and paths & {"train", "train.finetune", "recipe"}:
        config, overrides = with_settings(config, {"data.folds": 1}), [*overrides, "data.folds=1"]
        space = build_space(config, overrides, parse(overrides))
    return config, overrides, space


def _require_space(config: Config, space: Space, overrides: Sequence[str]) -> None:
    """Raise ConfigError if a sweep cannot be what it was asked to be."""
    resolve(config.sampler, "sampler", config.trusted_modules)
    resolve(config.pruner, "pruner", config.trusted_modules)
    require(config, space, parse(overrides))
    space.require_possible()
    feasible_share(space)


def _require_trials(config: Config, source: TrialSource) -> None:
    """Raise ConfigError if the trials cannot be asked for or trained."""
    require_step(config)
    # a package may be missing, or a grid too small; the second trial may start with a recipe
    last = min(config.sweep.n_trials - 1, LARGEST_GRID)
    for number in {min(1, last), last}:
        make_sampler(config, number, source)
    make_pruner(config)


def _own_functions(config: Config, source: TrialSource) -> list[OwnFunction]:
    """Return the functions of this session that trials are made of, or may be."""
    chosen = {
        choice
        for parameter in source.parameters
        if isinstance(parameter.distribution, CategoricalDistribution)
        for choice in parameter.distribution.choices
    }
    named = own_functions.used(dict(flatten(config)))
    named += [own for own in own_functions.options() if own.option["name"] in chosen]
    return [*dict.fromkeys(named)]


def _require_here(config: Config, source: TrialSource) -> None:
    """Raise ConfigError if workers would train with a function that only this process has."""
    own = _own_functions(config, source)
    if own and uses_workers(config):
        raise ConfigError(
            f"{own[0].option['name']} is a function of this session, and worker processes do not "
            "have it. Use executor=threads or sweep.workers=1, or write it into a module of yours: "
            "trusted_modules=[MODULE]"
        )


def _require_networks(
    config: Config, source: TrialSource, members: Members | None, context: TrainingContext
) -> None:
    """Raise what is wrong with the images, or with a network that may be trained."""
    dataset = context.dataset(config.data)
    if members:
        require_images(members, dataset.digest, config.data.split_seed)
        return
    for model in source.choices("model"):
        context.classifier(source.config(model))  # what is wrong is said before anything is written
    if not config.ensemble.members:
        context.batch(config)


def _provenance(
    journal: Journal,
    config: Config,
    overrides: Sequence[str],
    context: TrainingContext,
    digest: str,  # of the code
) -> dict[str, Any]:
    """Return where the numbers of a new study come from; keep the changes of the code with it, and
    a list of the images that it does not train on.
    """
    changes = diff()
    if changes is not None:
        write_bytes(journal.path.parent / "code.diff", masked_diff(changes).encode())
    dataset = context.dataset(config.data)
    if config.data.extra:
        write_bytes(journal.path.parent / LEFT_OUT, table_of(dataset.extra.left_out))
    return provenance(tuple(overrides), context.runtime, dataset, code=digest, changes=changes)


def _executor(
    config: Config, trainer: ImageTrainer, journal: Journal, open_: contextlib.ExitStack
) -> Executor:
    if uses_threads(config):
        return open_.enter_context(start_threads(config, trainer, journal))
    return InProcess(trainer)


def _first_points(
    members: Members | None, source: TrialSource, config: Config
) -> list[dict[str, Any]]:
    if members is None or not isinstance(source, Space):
        return []
    return first_trials(members, source, config.ensemble.pooling)


def _prepare(
    study: Study, pool: WorkerPool | None, context: TrainingContext, *, trains: bool
) -> None:
    """Compute what all trials share before the first of them, so that none waits for features."""
    groups = {parameter.path.split(".")[0] for parameter in study.source.parameters}
    trains = trains and next(study.remaining, None) is not None
    common = trains and not groups & {"model", "data"}
    if common and not study.clock.over and (pool is None or pool.local):
        broadcast_command(context.runtime, SHARE, {})
        context.precompute_features(study.config)


@contextlib.contextmanager
def _stopped_in_order(loop: TrialLoop) -> Iterator[None]:
    """Journal how the run of a study ended, so that its runs do not stay open."""
    study = loop.study

    def stop(state: str) -> None:
        study.write(StudyStopped(state=state, best=study.best.number if study.best else None))

    try:
        yield
    except BaseException:
        with contextlib.suppress(StudyError):  # the disk may be full
            stop("interrupted")
        raise
    stop("interrupted" if loop.stopped else "finished")


def _result(loop: TrialLoop, shipped: bool, analysis: EnsembleAnalysis | None) -> SweepResult:
    study = loop.study
    objective = study.config.sweep.objective
    return SweepResult(
        study.optuna,
        study.trials,
        study.best,
        loop.compiled,
        shipped,
        describe_best(study.folder, study.best, len(study.trials), objective),
        analysis,
        study.clock.minutes,
        loop.forecast,
        loop.stopped,
        len(study.imported),
        describe_judging(study.record.started),
    )


def run_follower_host(config: Config, overrides: Sequence[str]) -> bool:
    """Compute with the host that keeps the study until it has ended.

    Returns:
        False on the host that keeps the study, at once; True on the others, at the end.
    """
    if config.distributed.coordinator is None or start_runtime(config).host == 0:
        return False
    cache = Path(config.dir) / "cache"
    runtime = start_runtime(config)
    context = TrainingContext(
        runtime, cache, lambda what, done, total: None, config.trusted_modules
    )
    run_follower(_searched(config, overrides)[2], context)
    return True
