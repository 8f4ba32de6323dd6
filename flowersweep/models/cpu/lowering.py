"""The same network in operations that XLA compiles well for a CPU: its depthwise and 1x1
convolutions are slow there.
"""

from __future__ import annotations

from typing import Any

import jax
import keras
from keras import layers

from flowersweep.models.cpu.shifted import depthwise, patches
from flowersweep.models.hub import has_hub_layers


class ShiftedDepthwiseConv2D(layers.DepthwiseConv2D):  # type: ignore[misc]
    """A depthwise convolution as kernel-size-squared shifted multiply-adds; weights and result are
    `DepthwiseConv2D`'s.
    """

    def call(self, inputs: Any) -> Any:
        kernel = keras.ops.convert_to_tensor(self.kernel)[..., 0]
        outputs = depthwise(inputs, kernel, self.strides, self.padding, self.dilation_rate)
        return _finish(self, outputs)


class MatmulConv2D(layers.Conv2D):  # type: ignore[misc]
    """A 1x1 convolution as a matrix product; weights and result are `Conv2D`'s."""

    def call(self, inputs: Any) -> Any:
        rows, columns = self.strides
        if self.strides != (1, 1):
            inputs = inputs[:, ::rows, ::columns]
        kernel = keras.ops.convert_to_tensor(self.kernel)[0, 0]
        return _finish(self, jax.numpy.matmul(inputs, kernel))


class PatchesConv2D(layers.Conv2D):  # type: ignore[misc]
    """A convolution on an image's few channels as a matrix product of patches; weights and result
    are `Conv2D`'s.
    """

    def call(self, inputs: Any) -> Any:
        kernel = keras.ops.convert_to_tensor(self.kernel)
        return _finish(
            self, patches(inputs, kernel, self.strides, self.padding, self.dilation_rate)
        )


def lower_for_cpu(model: keras.Model) -> keras.Model:
    """Return a copy of a Functional model, nested models included, whose slow convolutions are
    lowered.

    The weights are copied and keep their order, so either model's weights may be given to the
    other. Layers with a form that is not lowered (channels first, a depth multiplier, groups) are
    copied as they are; a model with layers of keras-hub is returned as it is. Only for running:
    what is saved is the plain model.
    """
    if has_hub_layers(model):
        return model
    lowered = keras.models.clone_model(model, clone_function=_lower, recursive=True)
    lowered.set_weights(model.get_weights())
    return lowered


def _lower(layer: keras.Layer) -> keras.Layer:
    copy: keras.Layer = _lowered_class(layer).from_config(layer.get_config())
    # else one of Keras' bare operations, such as a division in the preprocessing
    if isinstance(layer, keras.Layer):
        copy.trainable = layer.trainable
    return copy


def _lowered_class(layer: keras.Layer) -> type[keras.Layer]:
    kind = type(layer)
    if getattr(layer, "data_format", None) != "channels_last":
        return kind
    if kind is layers.DepthwiseConv2D and layer.depth_multiplier == 1:
        return ShiftedDepthwiseConv2D
    if kind is not layers.Conv2D or layer.groups != 1:
        return kind
    if layer.kernel_size == (1, 1):
        return MatmulConv2D
    # Measured: a 3x3 stem gains a factor of 2, a 7x7 stem or more channels lose as much.
    return PatchesConv2D if layer.input.shape[-1] <= 4 and max(layer.kernel_size) <= 3 else kind


def _finish(layer: keras.Layer, outputs: Any) -> Any:
    if layer.use_bias:
        outputs = outputs + keras.ops.convert_to_tensor(layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)
