"""The programs of a training and the shapes of their arguments, without the images: to be compiled
or exported, not run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from flowersweep.config.schema import Config, Data, Experiment
from flowersweep.data.dataset import Dataset
from flowersweep.models.classifier import Classifier, build, sized
from flowersweep.runtime import Runtime
from flowersweep.training.context import TrainingContext
from flowersweep.training.stages.finetune import FinetuneStage
from flowersweep.training.stages.head import HeadStage
from flowersweep.training.stages.stage import SharedArrays
from flowersweep.training.step import Hyperparameters

EXTRACTED = 64  # images a batch while features are extracted: what `features.bank` takes


@dataclass(frozen=True)
class LoweredProgram:
    """A jitted function and what it is compiled for."""

    function: Any
    arguments: tuple[Any, ...]  # shapes, and how they lie on the devices
    held: int = 0  # bytes that a run keeps on each device besides the arguments
    loops: int = 1  # how often a step runs the loop that most of it is

    def lowered(self) -> Any:
        """Return the function in the compiler's language."""
        return self.function.lower(*self.arguments)


class AbstractContext(TrainingContext):
    """A context whose stages have the programs of a real run: the backbone has random weights, and
    there are no features.
    """

    def __init__(self, config: Config, dataset: Dataset, runtime: Runtime) -> None:
        super().__init__(
            runtime,
            Path(config.dir) / "cache",
            lambda what, done, total: None,
            config.trusted_modules,
        )
        # no weight changes a program: none is downloaded
        unread = replace(sized(config.model, config.data.image_size), weights="none")
        size, classes = dataset.image_size, len(dataset.classes)
        classifier = build(
            unread,
            image_size=size,
            classes=classes,
            lower=False,
            finetune=config.train.finetune,
            trusted=self.trusted,
            precision=self.precision(config),
        )
        nothing: Any = None
        self._only = SharedArrays(runtime, dataset, classifier, nothing, {})

    def dataset(self, data: Data) -> Dataset:
        """Return what is known of the images."""
        return self._only.dataset

    def classifier(self, config: Experiment) -> Classifier:
        """Return the network with random weights."""
        return self._only.classifier

    def get_shared(self, config: Experiment, *, features: bool = True) -> SharedArrays:
        """Return the backbone, and no images."""
        return self._only

    def folds(self, config: Experiment) -> int:
        """Return 1: a check compiles one head, and may know no image."""
        return 1

    def extraction(self) -> tuple[LoweredProgram, int]:
        """Return the program that computes features, and its images a batch."""
        network = self._only.classifier.pooled
        batch = max(EXTRACTED, self.runtime.replicas)
        weights = (
            [v.value for v in network.trainable_variables],
            [v.value for v in network.non_trainable_variables],
        )

        def run(trainable: Any, non_trainable: Any, images: Any) -> Any:
            return network.stateless_call(
                trainable, non_trainable, images.astype(np.float32), training=False
            )[0]

        return LoweredProgram(
            jax.jit(run), (*self._everywhere(weights), self._images(batch))
        ), batch

    def epoch(
        self, config: Experiment, hyperparameters: Hyperparameters, *, main: bool
    ) -> tuple[LoweredProgram, int]:
        """Return the program of an epoch of the frozen stage, and its images a step."""
        stage = cast(HeadStage, self.main_stage(config) if main else self.head_stage(config))
        epoch = config.train.all_epochs - 1 if main else 0
        batch, steps = self.batch(config), self.steps(config, epoch)
        images, widths = len(self._only.dataset.splits["train"]), self._only.classifier.widths
        rows = (
            np.empty((images, sum(widths)), np.float32),
            np.empty(images, np.int32),
            np.empty((steps, batch), np.int32),
        )
        return LoweredProgram(
            stage.scan,
            self._everywhere((stage.fresh(), hyperparameters, *rows)),
            loops=config.train.gradient_accumulation_steps,
        ), batch

    def step(
        self, config: Experiment, hyperparameters: Hyperparameters
    ) -> tuple[LoweredProgram, int]:
        """Return the program of a fine-tuning step, and its images."""
        stage = cast(FinetuneStage, self.main_stage(config))
        state, batch = stage.fresh(None), self.batch(config)
        labels = jax.ShapeDtypeStruct((batch,), np.int32, sharding=self.runtime.batch_sharding)
        images = len(self._only.dataset.splits["train"])
        features = 4 * images * sum(self._only.classifier.widths)
        # the state before the epoch stays for who gave it
        resident = features + sum(x.nbytes for x in jax.tree.leaves(state))
        shapes = *self._everywhere((state, hyperparameters)), self._images(batch), labels
        return LoweredProgram(
            stage.step, shapes, resident, config.train.gradient_accumulation_steps
        ), batch

    def _images(self, batch: int) -> Any:
        return jax.ShapeDtypeStruct(
            (batch, *self._only.dataset.image_size, 3),
            np.uint8,
            sharding=self.runtime.batch_sharding,
        )

    def _everywhere(self, tree: Any) -> Any:
        """Put shapes in the place of arrays that every replica holds."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.runtime.replicated), tree
        )
