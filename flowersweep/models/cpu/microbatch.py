"""Run a network on a few images at a time: on a CPU the maps between its layers then stay in the
cache.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras

from flowersweep.util.cores import usable_cores

# of the input; measured best between 40 000 and 80 000 for networks of EfficientNet-Lite's width
PIXELS_PER_CORE = 75_000


class MicroBatch(keras.layers.Layer):  # type: ignore[misc]
    """Apply `model` to `images` images at a time; its weights are this layer's, in the same order.

    The whole batch goes through at once while training, because batch normalization needs its
    statistics, and on several devices, which cut the batch among them.
    """

    def __init__(self, model: keras.Model, images: int, **options: Any) -> None:
        super().__init__(**options)
        self.model = model
        self.images = images

    def call(self, inputs: Any, training: bool = False) -> Any:
        # the loop would be compiled anew at each call
        eager = not isinstance(inputs, jax.core.Tracer)
        if training or eager or inputs.shape[0] <= self.images or jax.device_count() > 1:
            return self.model(inputs, training=training)
        whole = inputs.shape[0] // self.images * self.images
        slices = inputs[:whole].reshape(-1, self.images, *inputs.shape[1:])
        outputs = jax.lax.map(lambda few: self.model(few, training=False), slices)
        outputs = outputs.reshape(whole, *outputs.shape[2:])
        if whole == inputs.shape[0]:
            return outputs
        return jnp.concatenate([outputs, self.model(inputs[whole:], training=False)])

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.model.compute_output_shape(input_shape)


def microbatched(model: keras.Model) -> keras.Model:
    """Wrap a model from images (N, H, W, C) to features (N, D) so that under `jax.jit` it runs in
    slices that fit the cache.

    Features of an image must not depend on the others, as in inference they do not. The wrapped
    model owns `model`'s weights, not copies.
    """
    images = keras.Input(model.input_shape[1:], name="images", dtype=model.input.dtype)
    slices = MicroBatch(
        model, slice_size(*model.input_shape[1:3], cores=len(usable_cores())), name="slices"
    )
    return keras.Model(images, slices(images), name=f"{model.name}_in_slices")


def slice_size(height: int, width: int, *, cores: int) -> int:
    """Choose how many images of this size go through the network together: a power of two, at least
    1.
    """
    fitting = max(1, PIXELS_PER_CORE * cores // (height * width))
    return 1 << (fitting.bit_length() - 1)
