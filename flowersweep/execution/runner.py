"""Trains one trial at a time, segment by segment: in the coordinator's process or in a worker's.

A runner knows no study. What it answers depends on its tasks alone, so any worker can repeat them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from flowersweep.errors import ConfigError, StudyError, TrialFailed
from flowersweep.execution.protocol import (
    Checkpoint,
    CheckpointReached,
    Evaluate,
    Handle,
    Paused,
    Progress,
    RenderFigures,
    SaveCheckpoint,
    StartTrial,
    Task,
    TaskDone,
    TaskFailed,
    Trainer,
    TrainUntil,
    TrialSpec,
)
from flowersweep.runtime import compiles
from flowersweep.study.events import Epoch

log = logging.getLogger(__name__)


class TrialPaused(Exception):
    """The training was stopped at its checkpoint."""


class TrialRunner:
    """Does the tasks of the trial that was started last.

    Args:
        emit: Takes each message.
        should_stop: Says whether the training must be paused now.
        count: Returns how many programs were compiled here so far.
    """

    def __init__(
        self,
        trainer: Trainer,
        emit: Handle,
        should_stop: Callable[[], bool],
        count: Callable[[], int] = compiles,
    ) -> None:
        self.trainer, self.emit, self.should_stop, self._count = trainer, emit, should_stop, count
        self.spec: TrialSpec
        self.checkpoint: Checkpoint
        self.programs = 0  # compiled for the trial
        self._saved, self._unsaved = 0.0, False  # when a checkpoint was emitted; whether one is due

    def run(self, task: Task) -> None:
        """Do a task; emit what came of it."""
        if isinstance(task, StartTrial):
            self.spec, self.programs = task.spec, 0
        number, before = self.spec.number, self._count()
        try:
            answer, reason = self._perform(task), None
        # The study's own configuration was checked before: only the numbers of this trial do not
        # go together.
        except (TrialFailed, ConfigError) as failure:
            answer, reason = None, str(failure)
        except TrialPaused:
            self.emit(Paused(number))
            return
        self.programs += self._count() - before
        if reason is None:
            self.emit(TaskDone(number, answer, self.programs))
        else:
            self.emit(TaskFailed(number, reason, self.programs))

    def _perform(self, task: Task) -> Any:
        match task:
            case StartTrial():
                return self._start(task)
            case TrainUntil(epoch):
                return self._train(epoch)
            case SaveCheckpoint():
                return self._save_due()
            case Evaluate():
                self._save_due()
                return self.trainer.evaluate(self.spec, self.checkpoint)
            case RenderFigures(best):
                return self._draw(best)

    def _start(self, task: StartTrial) -> int:
        spec = task.spec
        if spec.fingerprint is not None:
            self._require_same(spec, spec.fingerprint)
        self.trainer.prepare(spec)  # may take minutes, which no checkpoint can save
        self.checkpoint = self.trainer.load(spec, task.checkpoint)
        self._saved, self._unsaved = time.monotonic(), False
        return self.checkpoint.epoch

    def _require_same(self, spec: TrialSpec, fingerprint: str) -> None:
        """Raise StudyError unless images and weights are those of the coordinator."""
        try:
            here = self.trainer.fingerprint(spec.config)
        except ConfigError as error:
            raise StudyError(f"a worker lacks what the coordinator has: {error}") from error
        if here != fingerprint:
            raise StudyError(
                "images and weights must be the same wherever trials run: "
                f"{fingerprint} at the coordinator, {here} at a worker"
            )

    def _train(self, until: int) -> list[Epoch]:
        self._save_due()
        self.checkpoint, epochs = self.trainer.train(self.spec, self.checkpoint, until, self._reach)
        self._unsaved = True
        return epochs

    def _draw(self, best: bool) -> dict[str, bytes]:
        try:
            return self.trainer.draw_figures(self.spec, best=best)
        except Exception:  # of a user's augmentation, say: a picture must not end a study
            log.warning(
                "the figures of trial %d could not be drawn", self.spec.number, exc_info=True
            )
            return {}

    def _save_due(self) -> None:
        """Emit the end of the last segment, now that it was neither pruned nor the last."""
        if self._unsaved:
            self._reach(self.checkpoint)
        self._unsaved = False

    def _reach(self, checkpoint: Checkpoint) -> None:
        """Say how far the training is; emit a checkpoint if it is worth it, or if it must stop."""
        number, train = self.spec.number, self.spec.config.train
        self.emit(Progress(number, checkpoint.epoch, checkpoint.steps))
        stop = self.should_stop() and checkpoint.epoch < train.all_epochs
        # other hosts are in the middle of the epoch, and would go on with it
        stop = stop and (self.trainer.hosts == 1 or not checkpoint.steps)
        if stop or time.monotonic() - self._saved > train.checkpoint_interval_s:
            self.emit(CheckpointReached(number, checkpoint))
            self._saved = time.monotonic()
        if stop:
            raise TrialPaused
