"""What the trials of a study compute on: the accelerators of this process, or workers, which then
have them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flowersweep.config.schema import Config
from flowersweep.config.targets import arguments, resolve
from flowersweep.config.validation import uses_workers
from flowersweep.errors import ConfigError
from flowersweep.execution.logical_order import LogicalOrder
from flowersweep.execution.pool import WorkerPool
from flowersweep.execution.protocol import Trainer, WorkerConfig
from flowersweep.execution.threads import Threads
from flowersweep.runtime import Runtime, start
from flowersweep.study.journal import Journal
from flowersweep.study.records import StudyRecord
from flowersweep.training.image_trainer import make_worker_trainer


def start_workers(
    config: Config, journal: Journal, open_: contextlib.ExitStack, *, trains: bool
) -> tuple[WorkerPool | None, Runtime]:
    """Return the workers that a study which ``trains`` needs, if any, and what its trials compute
    on; ``open_`` ends the workers.
    """
    pool = _make_pool(config, journal) if trains else None
    if pool:
        open_.enter_context(pool)
    return pool, _with_workers(config, pool, journal) if uses_workers(config) else start_runtime(
        config
    )


def start_threads(config: Config, trainer: Trainer, journal: Journal) -> Threads:
    """Return what runs several trials at a time in this process; it begins when entered."""
    threads: Threads = _executor_of(config)(
        trainer, config.sweep.workers, StudyRecord(journal.events)
    )
    return threads


def start_runtime(config: Config, platform: str | None = None) -> Runtime:
    """Have JAX take the accelerators, or those of ``platform``; return what there is."""
    return start(
        Path(config.dir) / "cache" / "compiled", **asdict(config.distributed), platform=platform
    )


def _with_workers(config: Config, pool: WorkerPool | None, journal: Journal) -> Runtime:
    """Leave the accelerators to the workers; return what they compute on, as far as a study depends
    on it.
    """
    runtime = start_runtime(config, platform="cpu")
    if pool is None:  # there is nothing to train: what the study was started on
        settings = StudyRecord(journal.events[:1]).started.settings if journal.events else {}
        return replace(runtime, replicas=settings.get("replicas", runtime.replicas))
    facts = pool.wait_until_ready()
    if pool.local and facts.platform != "cpu":
        raise ConfigError(
            f"sweep.workers={config.sweep.workers} shares the cores of this machine, and its "
            f"{facts.device_kind} belongs to one process: "
            "executor=ray hands devices out, sweep.workers=1 trains in this process, "
            "JAX_PLATFORMS=cpu before the command leaves them alone"
        )
    return replace(
        runtime, platform=facts.platform, device_kind=facts.device_kind, replicas=facts.replicas
    )


def _make_pool(config: Config, journal: Journal) -> WorkerPool | None:
    """Return the workers that a study needs, which are not there yet; None if it trains in this
    process, or nothing is left to train.
    """
    study = StudyRecord(journal.events)
    left = config.sweep.n_trials - sum(record.ended is not None for record in study.trials)
    if not uses_workers(config) or left < 1:
        return None
    backend = _executor_of(config)(**arguments(config.executor), workers=config.sweep.workers)
    made_by = f"{make_worker_trainer.__module__}:{make_worker_trainer.__name__}"
    arguments_ = Path(config.dir) / "cache", tuple(config.trusted_modules)
    worker = WorkerConfig(os.getcwd(), (*sys.path,), made_by, arguments_)
    slots = config.sweep.workers
    order = LogicalOrder(study) if backend.ordered else None
    return WorkerPool(backend, slots, worker, workers=min(slots, left), order=order)


def _executor_of(config: Config) -> Callable[..., Any]:
    return resolve(config.executor, "executor", config.trusted_modules)
