"""What the search and whoever trains a trial say to each other.

The search knows a training only through `Trainer`. An executor is given tasks and answers with one
stream of messages; in this process, threads, other processes and Ray differ in transport alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from flowersweep.config.schema import Config
from flowersweep.study.events import Epoch, Metrics

# an executor returns after so long without a message: a budget may be used up
POLL_INTERVAL_S = 1.0


class Checkpoint(Protocol):
    """A training between two steps. What is in it is the trainer's own."""

    @property
    def epoch(self) -> int:
        """Whole epochs that are done."""

    @property
    def steps(self) -> int:
        """Steps of the next epoch that are done."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes on disk, about."""

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all."""

    def detached(self) -> Checkpoint:
        """Return it off the device, for another thread or process."""


@dataclass(frozen=True)
class TrialSpec:
    """A trial as its trainer must know it."""

    number: int
    config: Config  # with the seed of the trial
    params: dict[str, Any]
    seed: int | None  # of a repeated training; None: the study's
    fingerprint: str | None = None  # of data and weights at the coordinator; None: the same process


@dataclass(frozen=True)
class Evaluation:
    """What a trained trial gave."""

    metrics: Metrics
    arrays: dict[str, np.ndarray]  # what is kept of one of the best trials, such as its logits
    network: Checkpoint  # the trained weights alone


OnCheckpoint = Callable[[Checkpoint], None]


class Trainer(Protocol):
    """Trains trials. The same arguments give the same numbers, in any process.

    A checkpoint that it is given is one that it returned itself.
    """

    @property
    def hosts(self) -> int:
        """How many hosts compute one trial together."""

    def facts(self, config: Config) -> dict[str, Any]:
        """Return what must stay the same while a study runs, such as a digest of the data."""

    def identity(self, config: Config, *, data_varies: bool) -> str:
        """Return a hash that configurations share if they are the same training."""

    def fingerprint(self, config: Config) -> str:
        """Return what must be equal wherever trials of a study run."""

    def compile_key(self, config: Config) -> Any:
        """Return a key that trials share if they share every compiled program."""

    def prepare(self, spec: TrialSpec) -> None:
        """Do what takes minutes before the training can start, such as computing features."""

    def load(self, spec: TrialSpec, source: Path | bytes | None) -> Checkpoint:
        """Return the checkpoint of a file or its content; the first one if there is none."""

    def train(
        self, spec: TrialSpec, checkpoint: Any, until: int, on_checkpoint: OnCheckpoint
    ) -> tuple[Checkpoint, list[Epoch]]:
        """Train until so many epochs are done; return the metrics of each new epoch.

        There are fewer of them if the training has ended by itself.

        Raises:
            TrialFailed: A loss is not finite, or the device has not enough memory.
        """

    def evaluate(self, spec: TrialSpec, checkpoint: Any) -> Evaluation:
        """Score the trained trial. Raises TrialFailed."""

    def draw_figures(self, spec: TrialSpec, *, best: bool) -> dict[str, bytes]:
        """Return pictures of a trial by file name."""


# Tasks: a trial's first is StartTrial, and it has one at a time.


@dataclass(frozen=True)
class StartTrial:
    """Take up a trial from its checkpoint. The answer is how many epochs are done."""

    spec: TrialSpec
    checkpoint: Path | bytes | None


@dataclass(frozen=True)
class TrainUntil:
    """Train until so many epochs are done. The answer is a list of `Epoch`."""

    epoch: int


@dataclass(frozen=True)
class SaveCheckpoint:
    """Save a paused trial, so that another trial can continue it. The answer is None."""


@dataclass(frozen=True)
class Evaluate:
    """Score the trained trial. The answer is an `Evaluation`."""


@dataclass(frozen=True)
class RenderFigures:
    """Draw the figures of an evaluated trial. The answer is their bytes by file name."""

    best: bool


Task = StartTrial | TrainUntil | SaveCheckpoint | Evaluate | RenderFigures


# Messages: each is about a trial.


@dataclass(frozen=True)
class Progress:
    """How far a training is. It comes wherever the training could be continued from."""

    trial: int
    epoch: int
    steps: int


@dataclass(frozen=True)
class CheckpointReached:
    """So much training would be lost now that it is worth a checkpoint."""

    trial: int
    checkpoint: Checkpoint


@dataclass(frozen=True)
class TaskDone:
    """The answer to a task."""

    trial: int
    answer: Any
    programs: int = 0  # compiled for the trial so far


@dataclass(frozen=True)
class TaskFailed:
    """The trial has failed, for a reason of its own."""

    trial: int
    reason: str
    programs: int = 0


@dataclass(frozen=True)
class Paused:
    """The trial was stopped at its checkpoint, because the executor was asked to stop."""

    trial: int


@dataclass(frozen=True)
class WorkerLost:
    """The worker is gone, and with it what it has done since the checkpoint."""

    trial: int
    reason: str


Message = Progress | CheckpointReached | TaskDone | TaskFailed | Paused | WorkerLost
Handle = Callable[[Message], None]


# Between the coordinator and a worker, next to tasks and messages.


@dataclass(frozen=True)
class WorkerReady:
    """The first message of a worker: what it computes on."""

    platform: str
    device_kind: str
    replicas: int
    precision: str = "float32"  # what its devices are made for


@dataclass(frozen=True)
class WorkerConfig:
    """The first message to a worker."""

    cwd: str
    path: tuple[str, ...]  # where the coordinator imports from
    trainer: str  # MODULE:FUNCTION, which returns the trainer and what it computes on
    arguments: tuple[Any, ...]  # of that function


@dataclass(frozen=True)
class StopRequest:
    """To a worker: save a checkpoint and pause the trial."""


class Executor(Protocol):
    """Where tasks are done."""

    @property
    def slots(self) -> int:
        """Trials at a time."""

    @property
    def remote(self) -> bool:
        """Whether trials are trained in other processes, which share no files with this one."""

    @property
    def logical_time(self) -> int | None:
        """When the newest answer was handed over, in epochs; None: answers come by the clock."""

    def submit(self, trial: int, task: Task) -> None:
        """Have a task done."""

    def receive(self, handle: Handle) -> None:
        """Wait for messages, pass each to ``handle``; return after `POLL_INTERVAL_S` at most."""

    def release(self, trial: int) -> None:
        """Free the slot of a trial that has ended."""

    def worker_of(self, trial: int) -> int | None:
        """Return the worker that has a trial, counted from 1; None: this process."""

    def request_stop(self) -> None:
        """Have all trials paused where they can be continued from."""
