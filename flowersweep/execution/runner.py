"""Where one trial at a time is trained, segment by segment: in the coordinator's own process, or in a worker's.

A worker knows no study. It is given tasks, and what it answers depends on them alone, so that any worker can repeat them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flowersweep.config.schema import Experiment
from flowersweep.errors import ConfigError
from flowersweep.execution.multihost import ADVANCE, FINISH, LOAD, SHARE, broadcast_command, load_checkpoint
from flowersweep.study.events import Epoch
from flowersweep.training import trial, trial_figures
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext


@dataclass(frozen=True)
class TrialSpec:
    """A trial as whoever trains it must know it."""

    number: int
    config: Experiment  # with the seed of the trial
    params: dict[str, Any]
    seed: int | None  # of its own, if it repeats another
    same: str | None = None  # images and weights that the coordinator has; None: this process is the coordinator


@dataclass(frozen=True)
class StartTrial:
    """Take up a trial from its checkpoint, a file or what was in it; the answer is how many epochs are done."""

    job: TrialSpec
    checkpoint: Path | bytes | None


@dataclass(frozen=True)
class TrainUntil:
    """Train on until so many epochs are done; the answer is what each of them gave."""

    until: int


@dataclass(frozen=True)
class SaveCheckpoint:
    """Keep what was trained of a trial that ends here, for one that will take it further; the answer is nothing."""


@dataclass(frozen=True)
class Evaluate:
    """Score the trained trial; the answer is the Result, and a Checkpoint without the optimizer's numbers."""


@dataclass(frozen=True)
class RenderFigures:
    """Draw the pictures of a trial that was finished; the answer is their bytes by name."""

    best: bool


Task = StartTrial | TrainUntil | SaveCheckpoint | Evaluate | RenderFigures


class TrialPaused(Exception):
    """The training was left where its checkpoint is."""


class TrialListener(Protocol):
    """Who is told of a training, and keeps its checkpoints."""

    def passed(self, number: int, epoch: int, steps: int) -> None:
        """Take note of how far a trial is. Called wherever its training could be gone on from."""

    def store(self, number: int, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""

    def late(self) -> bool:
        """Say whether the training must be left now."""


class TrialRunner:
    """Trains the trial that was begun last."""

    def __init__(self, workshop: TrainingContext, attendant: TrialListener) -> None:
        self.workshop, self.attendant = workshop, attendant
        self.job: TrialSpec
        self.checkpoint = Checkpoint()
        self._saved, self._unsaved = 0.0, False  # when a checkpoint was last written; whether one is due to be looked at

    def perform(self, task: Task) -> Any:
        """Do a task and return its answer. Raises TrialFailed, or Leaving after the checkpoint was stored."""
        match task:
            case StartTrial(job, checkpoint):
                return self._begin(job, checkpoint)
            case TrainUntil(until):
                return self._advance(until)
            case SaveCheckpoint():
                return self._settle()
            case Evaluate():
                return self._finish()
            case RenderFigures(best):
                return trial_figures.draw_figures(self.job.config, self.workshop, best=best)

    def _begin(self, job: TrialSpec, checkpoint: Path | bytes | None) -> int:
        self.job, runtime = job, self.workshop.runtime
        broadcast_command(runtime, SHARE, job.params)
        if job.same is not None and (here := images_and_weights(job.config, self.workshop)) != job.same:
            raise ConfigError(f"images and weights must be the same wherever trials run: {job.same} at the coordinator, {here} at a worker")
        self.workshop.precompute_features(job.config)  # may take minutes, which no checkpoint can save
        broadcast_command(runtime, LOAD, job.params)
        self.checkpoint, self._saved, self._unsaved = load_checkpoint(checkpoint, runtime), time.monotonic(), False
        return self.checkpoint.epoch

    def _advance(self, until: int) -> list[Epoch]:
        self._settle()
        broadcast_command(self.workshop.runtime, ADVANCE, self.job.params, until, self.job.seed)
        self.checkpoint, epochs = trial.advance(self.job.config, self.checkpoint, until, self.workshop, self._keep)
        self._unsaved = True
        return epochs

    def _finish(self) -> tuple[trial.Result, Checkpoint]:
        self._settle()
        broadcast_command(self.workshop.runtime, FINISH, self.job.params)
        result = trial.finish(self.job.config, self.checkpoint, self.workshop)
        assert self.checkpoint.state is not None
        return result, Checkpoint(self.checkpoint.epoch, self.checkpoint.state._replace(optimizer=[]))

    def _settle(self) -> None:
        """Keep what the last segment gave, now that it was neither pruned nor the last."""
        if self._unsaved:
            self._keep(self.checkpoint)
        self._unsaved = False

    def _keep(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint when so much training would be lost that it is worth it, or when the training must be left."""
        number, config = self.job.number, self.job.config
        self.attendant.passed(number, checkpoint.epoch, len(checkpoint.losses))
        late = self.attendant.late() and checkpoint.epoch < config.train.all_epochs
        late = late and (self.workshop.runtime.hosts == 1 or not checkpoint.losses)  # other hosts are in the middle of the epoch
        if late or time.monotonic() - self._saved > config.train.checkpoint_seconds:
            self.attendant.store(number, checkpoint)
            self._saved = time.monotonic()
        if late:
            raise TrialPaused


def images_and_weights(config: Experiment, workshop: TrainingContext) -> str:
    """Return what must be the same wherever trials of a study run."""
    return f"{workshop.dataset(config.data).digest} and {workshop.classifier(config).pretrained}"
