"""Where one trial at a time is trained, segment by segment: in the coordinator's own process, or in a worker's.

A worker knows no study. It is given tasks, and what it answers depends on them alone, so that any worker can repeat them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flowersweep import trial as one
from flowersweep.config import Config
from flowersweep.errors import ConfigError
from flowersweep.search import pictures
from flowersweep.search.hosts import ADVANCE, FINISH, LOAD, SHARE, loaded, order
from flowersweep.training.checkpoint import Checkpoint, Epoch
from flowersweep.training.workshop import Workshop


@dataclass(frozen=True)
class Job:
    """A trial as whoever trains it must know it."""

    number: int
    config: Config  # with the seed of the trial
    params: dict[str, Any]
    seed: int | None  # of its own, if it repeats another
    same: str | None = None  # images and weights that the coordinator has; None: this process is the coordinator


@dataclass(frozen=True)
class Begin:
    """Take up a trial from its checkpoint, a file or what was in it; the answer is how many epochs are done."""

    job: Job
    checkpoint: Path | bytes | None


@dataclass(frozen=True)
class Advance:
    """Train on until so many epochs are done; the answer is what each of them gave."""

    until: int


@dataclass(frozen=True)
class Keep:
    """Keep what was trained of a trial that ends here, for one that will take it further; the answer is nothing."""


@dataclass(frozen=True)
class Finish:
    """Score the trained trial; the answer is the Result, and a Checkpoint without the optimizer's numbers."""


@dataclass(frozen=True)
class Draw:
    """Draw the pictures of a trial that was finished; the answer is their bytes by name."""

    best: bool


Task = Begin | Advance | Keep | Finish | Draw


class Leaving(Exception):
    """The training was left where its checkpoint is."""


class Attendant(Protocol):
    """Who is told of a training, and keeps its checkpoints."""

    def passed(self, number: int, epoch: int, steps: int) -> None:
        """Take note of how far a trial is. Called wherever its training could be gone on from."""

    def store(self, number: int, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""

    def late(self) -> bool:
        """Say whether the training must be left now."""


class Workbench:
    """Trains the trial that was begun last."""

    def __init__(self, workshop: Workshop, attendant: Attendant) -> None:
        self.workshop, self.attendant = workshop, attendant
        self.job: Job
        self.checkpoint = Checkpoint()
        self._saved, self._unsaved = 0.0, False  # when a checkpoint was last written; whether one is due to be looked at

    def perform(self, task: Task) -> Any:
        """Do a task and return its answer. Raises TrialFailed, or Leaving after the checkpoint was stored."""
        match task:
            case Begin(job, checkpoint):
                return self._begin(job, checkpoint)
            case Advance(until):
                return self._advance(until)
            case Keep():
                return self._settle()
            case Finish():
                return self._finish()
            case Draw(best):
                return pictures.drawn(self.job.config, self.workshop, best=best)

    def _begin(self, job: Job, checkpoint: Path | bytes | None) -> int:
        self.job, runtime = job, self.workshop.runtime
        order(runtime, SHARE, job.params)
        if job.same is not None and (here := images_and_weights(job.config, self.workshop)) != job.same:
            raise ConfigError(f"images and weights must be the same wherever trials run: {job.same} at the coordinator, {here} at a worker")
        self.workshop.prepare(job.config)  # may take minutes, which no checkpoint can save
        order(runtime, LOAD, job.params)
        self.checkpoint, self._saved, self._unsaved = loaded(checkpoint, runtime), time.monotonic(), False
        return self.checkpoint.epoch

    def _advance(self, until: int) -> list[Epoch]:
        self._settle()
        order(self.workshop.runtime, ADVANCE, self.job.params, until, self.job.seed)
        self.checkpoint, epochs = one.advance(self.job.config, self.checkpoint, until, self.workshop, self._keep)
        self._unsaved = True
        return epochs

    def _finish(self) -> tuple[one.Result, Checkpoint]:
        self._settle()
        order(self.workshop.runtime, FINISH, self.job.params)
        result = one.finish(self.job.config, self.checkpoint, self.workshop)
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
        late = self.attendant.late() and checkpoint.epoch < one.epochs(config)
        late = late and (self.workshop.runtime.hosts == 1 or not checkpoint.losses)  # other hosts are in the middle of the epoch
        if late or time.monotonic() - self._saved > config.train.checkpoint_seconds:
            self.attendant.store(number, checkpoint)
            self._saved = time.monotonic()
        if late:
            raise Leaving


def images_and_weights(config: Config, workshop: Workshop) -> str:
    """Return what must be the same wherever trials of a study run."""
    return f"{workshop.dataset(config.data).digest} and {workshop.classifier(config).pretrained}"
