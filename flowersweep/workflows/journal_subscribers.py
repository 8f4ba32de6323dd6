"""Threads that follow a journal, and the sampling of the machine."""

from __future__ import annotations

import contextlib
from pathlib import Path

from flowersweep.config.schema import Config
from flowersweep.machine import MachineMonitor
from flowersweep.search.optuna_export import OptunaExporter
from flowersweep.study.events import MachineSampled
from flowersweep.study.journal import Journal
from flowersweep.tracking.followers.sinks import followers
from flowersweep.tracking.mlflow_sink import MlflowSink
from flowersweep.tracking.shipper import Shipper
from flowersweep.workflows.buckets import StudyBucket


class JournalSubscribers:
    """Whoever follows a journal, until ``open_`` is closed."""

    def __init__(
        self,
        config: Config,
        journal: Journal,
        open_: contextlib.ExitStack,
        bucket: StudyBucket | None = None,
    ) -> None:
        dir = Path(config.dir)
        self.journal = journal
        self._shipper = (
            open_.enter_context(Shipper(MlflowSink(journal.path, config.tracking, dir)))
            if config.tracking.enabled
            else None
        )
        self._optuna = (
            open_.enter_context(Shipper(OptunaExporter(journal.path, config.sweep.optuna_storage)))
            if config.sweep.optuna_storage
            else None
        )
        self._bucket_copy = (
            open_.enter_context(Shipper(bucket.mirror(journal), gather=config.sync.interval_s))
            if bucket
            else None
        )
        self._further = [
            open_.enter_context(Shipper(sink))
            for sink in followers(journal.path, config.tracking, dir)
        ]
        self._machine = MachineMonitor(journal.path.parent)

    def wake(self, *, soon: bool = False) -> None:
        """Say that there may be something new; with ``soon`` it is not to wait for more."""
        if self._machine.due:
            self.sample()
        for follower in (self._shipper, self._optuna, self._bucket_copy, *self._further):
            if follower:
                follower.wake(soon=soon)

    def sample(self) -> None:
        """Journal what the machine has been doing since the last time."""
        self.journal.append(MachineSampled(metrics=self._machine.sample()))

    def drain(self) -> bool:
        """Return whether MLflow has everything that it is to have, after waiting for it."""
        return self._shipper is None or self._shipper.drain(None)
