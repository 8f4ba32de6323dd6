"""The trainer that the project ships: image classification. See `execution.protocol.Trainer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowersweep.config.schema import Config
from flowersweep.execution.protocol import Evaluation, OnCheckpoint, TrialSpec, WorkerReady
from flowersweep.runtime import start
from flowersweep.study.events import Epoch
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.identity import identity
from flowersweep.training.multihost import (
    ADVANCE,
    FINISH,
    LOAD,
    SHARE,
    broadcast_command,
    load_checkpoint,
)
from flowersweep.training.trial_figures import draw_figures


@dataclass(frozen=True)
class ImageTrainer:
    """Trains image classifiers on the devices of this process, and of other hosts with it."""

    context: TrainingContext

    @property
    def hosts(self) -> int:
        return self.context.runtime.hosts

    def facts(self, config: Config) -> dict[str, Any]:
        dataset = self.context.dataset(config.data)
        return {
            "data.digest": dataset.digest,
            "data.class_names": dataset.class_names,
            "data.folds": self.context.folds(config),
            "replicas": self.context.runtime.replicas,
        }

    def identity(self, config: Config, *, data_varies: bool) -> str:
        folds = self.context.folds(config)  # the same, chosen by themselves or asked for
        config = replace(config, data=replace(config.data, folds=folds))
        digest = self.context.dataset(config.data).digest if data_varies else ""
        return identity(config, self.context.runtime.replicas, digest)

    def fingerprint(self, config: Config) -> str:
        dataset, classifier = self.context.dataset(config.data), self.context.classifier(config)
        return f"{dataset.digest} and {classifier.pretrained}"

    def compile_key(self, config: Config) -> tuple[str, ...]:
        return self.context.compile_group_keys(config)

    def prepare(self, spec: TrialSpec) -> None:
        broadcast_command(self.context.runtime, SHARE, spec.params)
        self.context.precompute_features(spec.config)

    def load(self, spec: TrialSpec, source: Path | bytes | None) -> Checkpoint:
        broadcast_command(self.context.runtime, LOAD, spec.params)
        return load_checkpoint(source, self.context.runtime)

    def train(
        self, spec: TrialSpec, checkpoint: Checkpoint, until: int, on_checkpoint: OnCheckpoint
    ) -> tuple[Checkpoint, list[Epoch]]:
        broadcast_command(self.context.runtime, ADVANCE, spec.params, until, spec.seed)
        return trial.advance(spec.config, checkpoint, until, self.context, on_checkpoint)

    def evaluate(self, spec: TrialSpec, checkpoint: Checkpoint) -> Evaluation:
        broadcast_command(self.context.runtime, FINISH, spec.params)
        result = trial.finish(spec.config, checkpoint, self.context)
        # half precision: the logits of twenty trials are kept
        logits = {part: array.astype("float16") for part, array in result.logits.items()}
        labels = {f"{part}_labels": array for part, array in result.labels.items()}
        network = trial.restored(spec.config, checkpoint).without_optimizer()
        return Evaluation(result.metrics, {**logits, **labels}, network)

    def draw_figures(self, spec: TrialSpec, *, best: bool) -> dict[str, bytes]:
        return draw_figures(spec.config, self.context, best=best)


def make_worker_trainer(cache: Path, trusted: Sequence[str]) -> tuple[ImageTrainer, WorkerReady]:
    """Return the trainer of a worker, and what it computes on."""
    runtime = start(cache / "compiled")
    context = TrainingContext(runtime, cache, lambda what, done, total: None, trusted)
    return ImageTrainer(context), WorkerReady(
        runtime.platform, runtime.device_kind, runtime.replicas
    )
