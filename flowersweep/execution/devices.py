"""What the trials of a study compute on: the accelerators of this process, or workers, which then have them."""

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
from flowersweep.execution.pool import WorkerConfig, WorkerPool
from flowersweep.execution.threads import Threads
from flowersweep.runtime import Runtime, start
from flowersweep.study.journal import Journal
from flowersweep.study.records import StudyRecord
from flowersweep.training.context import TrainingContext


def start_workers(config: Config, journal: Journal, open_: contextlib.ExitStack, *, trains: bool) -> tuple[WorkerPool | None, Runtime]:
    """Return the workers that a study which ``trains`` needs, if any, and what its trials compute on; ``open_`` ends the workers."""
    crew = _crew(config, journal) if trains else None
    if crew:
        open_.enter_context(crew)
    return crew, _with_workers(config, crew, journal) if uses_workers(config) else start_runtime(config)


def start_threads(config: Config, workshop: TrainingContext, journal: Journal) -> Threads:
    """Return what does several trials at a time in this process, which begins when it is entered."""
    threads: Threads = _make_executor(config)(workshop, config.sweep.workers, StudyRecord(journal.events))
    return threads


def start_runtime(config: Config, platform: str | None = None) -> Runtime:
    """Have JAX take the accelerators, or those of ``platform``; return what there is."""
    return start(Path(config.dir) / "cache" / "compiled", **asdict(config.cluster), platform=platform)


def _with_workers(config: Config, crew: WorkerPool | None, journal: Journal) -> Runtime:
    """Leave the accelerators to the workers; return what they compute on, as far as a study depends on it."""
    runtime = start_runtime(config, platform="cpu")
    if crew is None:  # there is nothing to train: what the study was begun on
        settings = StudyRecord(journal.events[:1]).started.settings if journal.events else {}
        return replace(runtime, replicas=settings.get("replicas", runtime.replicas))
    facts = crew.begun()
    if crew.local and facts.platform != "cpu":
        raise ConfigError(
            f"sweep.workers={config.sweep.workers} shares the cores of this machine, and its {facts.device_kind} belongs to one process: "
            "executor=ray hands devices out, sweep.workers=1 trains in this process, JAX_PLATFORMS=cpu before the command leaves them alone"
        )
    return replace(runtime, platform=facts.platform, device_kind=facts.device_kind, replicas=facts.replicas)


def _crew(config: Config, journal: Journal) -> WorkerPool | None:
    """Return the workers that a study needs, which are not there yet; None if it trains in this process, or nothing is left to train."""
    left = config.sweep.n_trials - sum(record.ended is not None for record in StudyRecord(journal.events).trials)
    if not uses_workers(config) or left < 1:
        return None
    staff = _make_executor(config)(**arguments(config.executor), workers=config.sweep.workers)
    return WorkerPool(
        staff,
        min(config.sweep.workers, left),
        WorkerConfig(os.getcwd(), (*sys.path,), Path(config.dir) / "cache", tuple(config.trusted_modules)),
    )


def _make_executor(config: Config) -> Callable[..., Any]:
    return resolve(config.executor, "executor", config.trusted_modules)
