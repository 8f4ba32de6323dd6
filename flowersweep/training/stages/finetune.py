"""The fine-tuning stage: batches of images go from the files through the whole network."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import Array

from flowersweep.models.remat import rematerialised
from flowersweep.training.stages.resident import ResidentImages
from flowersweep.training.stages.stage import (
    EpochPlan,
    OnStep,
    SharedArrays,
    fresh_head,
    heads,
)
from flowersweep.training.step import (
    Dropout,
    Hyperparameters,
    State,
    StepComponents,
    StepDefinition,
    mean_log_probs,
    train_step,
)

SCORED = 32  # images of a replica that are scored together


class FinetuneStage:
    """Train every layer on batches that are cut over the replicas."""

    def __init__(self, shared: SharedArrays, recipe: StepComponents) -> None:
        network, widths = shared.classifier.features, shared.classifier.widths
        kernel, bias = fresh_head(shared)
        head = [keras.Variable(kernel.T), keras.Variable(bias)]
        recipe.optimizer.build([*network.trainable_variables, *head])
        # the compiler for CPUs sees that the same is computed twice, and undoes it
        anew = recipe.remat and shared.runtime.platform != "cpu"
        call = rematerialised(network) if anew else network.stateless_call

        def forward(
            trainable: Sequence[Array],
            non_trainable: Sequence[Array],
            inputs: Array,
            training: bool,
            dropout: Dropout,
        ) -> tuple[Array, list[Array]]:
            *backbone, kernel, bias = trainable
            features, changed = call(
                backbone,
                non_trainable,
                inputs.astype(jnp.float32),
                training=training and recipe.batch_statistics,
            )
            features = dropout(features) if training else features
            return heads(features, kernel, bias, widths), list(changed)

        def predict(
            weights: Sequence[Array], non_trainable: Sequence[Array], images: Array
        ) -> Array:
            return mean_log_probs(forward(weights, non_trainable, images, False, lambda x: x)[0])

        self.shared = shared
        self.program = StepDefinition(
            forward,
            len(shared.dataset.classes),
            recipe,
            shared.classifier.heights,
            shared.dataset.pseudo is not None,
        )
        self._train = shared.dataset.trained()
        self.step = jax.jit(lambda *batch: train_step(self.program, *batch), donate_argnums=0)
        self._predict = jax.jit(predict)
        self._resident = ResidentImages(shared, self._train)

    def begin(self, before: State | None) -> State:
        """Return a state with the backbone's own weights and the head that the frozen stage left,
        or a fresh one if there was none.
        """
        state: State = self.shared.runtime.replicate(self.fresh(before))
        return state

    def fresh(self, before: State | None) -> State:
        """Return the state before the first step, yet to be put on a device."""
        network = self.shared.classifier.features
        kernel, bias = map(
            np.asarray, fresh_head(self.shared) if before is None else before.weights
        )
        trainable = [v.value for v in network.trainable_variables]
        return self.program.init(
            [*trainable, np.ascontiguousarray(kernel.T), bias],
            [v.value for v in network.non_trainable_variables],
        )

    def epoch(
        self, state: State, hyperparameters: Hyperparameters, batches: EpochPlan, keep: OnStep
    ) -> tuple[State, float]:
        from flowersweep.data.pipeline import shuffled, shuffled_rows

        dataset, place = self.shared.dataset, self.shared.runtime.shard_batch
        split, size, losses = self._train, dataset.image_size, [*batches.losses]
        order = {
            "seed": batches.seed,
            "epoch": batches.epoch,
            "skip": len(losses),
            "steps": batches.steps,
            "min_class_images": batches.min_class_images,
        }
        if self._resident.ready():
            rows = shuffled_rows(split, size, batches.batch, **order)
            ready = self._resident.batches(rows)
        else:
            images = shuffled(split, size, batches.batch, **order)
            ready = ((place(some), place(labels)) for some, labels in images)
        # the steps reuse the memory of their argument; the caller keeps his
        state = jax.tree.map(jnp.copy, state)
        for some, labels in ready:
            state, loss = self.step(state, hyperparameters, some, labels)
            losses.append(loss)
            # one step ahead is enough: more would only fill the memory with images
            jax.device_get(losses[-2:-1])
            keep(state, losses)
        return state, float(np.mean(jax.device_get(losses)))

    def logits(self, state: State, part: str) -> np.ndarray:
        from flowersweep.data.pipeline import padded

        dataset, runtime = self.shared.dataset, self.shared.runtime
        rows: np.ndarray = getattr(dataset, part)
        split, batch = dataset.splits["val"], SCORED * runtime.replicas
        logits = [
            runtime.gather(
                self._predict(state.weights, state.non_trainable, runtime.shard_batch(images))
            )
            for images in padded(split, dataset.image_size, batch, rows, keep=True)
        ]
        return np.concatenate(logits)[: len(rows)]

    @staticmethod
    def head(state: State) -> tuple[np.ndarray, np.ndarray]:
        kernel, bias = (np.asarray(weight) for weight in state.weights[-2:])
        return kernel, bias
