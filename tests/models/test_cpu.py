"""The network lowered for a CPU computes what the plain one does, forward and backward."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras import layers

from flowersweep.models.backbones import efficientnet_lite0
from flowersweep.models.cpu.lowering import (
    MatmulConv2D,
    PatchesConv2D,
    ShiftedDepthwiseConv2D,
    lower_for_cpu,
)
from flowersweep.models.cpu.shifted import depthwise, patches
from flowersweep.testing import tiny_backbone
from tests.models.test_classifier import small

SHAPES = {  # rows, columns, kernel, stride, padding, dilation
    "same": (9, 8, 3, 1, "same", 1),
    "same, stride 2, even sides": (8, 8, 3, 2, "same", 1),
    "same, stride 2, odd sides": (9, 7, 5, 2, "same", 1),
    "valid": (9, 8, 3, 1, "valid", 1),
    "valid, stride 2, pixels left over": (10, 8, 3, 2, "valid", 1),
    "valid, stride beyond the kernel": (8, 9, 2, 3, "valid", 1),
    "same, dilated": (9, 8, 3, 1, "same", 2),
    "valid, dilated": (9, 8, 3, 1, "valid", 2),
    "same, stride beyond the kernel": (7, 7, 1, 3, "same", 1),
    "same, kernel beyond the image": (2, 2, 5, 2, "same", 1),
}
NETWORKS = [
    pytest.param(tiny_backbone, id="two convolutions"),
    pytest.param(small, id="with a depthwise convolution"),
    # to compile
    pytest.param(efficientnet_lite0, id="EfficientNet-Lite0", marks=pytest.mark.slow),
    pytest.param(keras.applications.DenseNet121, id="DenseNet121", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(depthwise, "depthwise_conv"), (patches, "conv")],
    ids=["depthwise", "patches"],
)
def test_a_lowered_convolution_and_its_gradients_equal_the_real_one(
    ours: Any, theirs: str, shape: Any
) -> None:
    rows, columns, size, stride, padding, dilation = shape
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(2, rows, columns, 3)), jnp.float32)
    kernel = jnp.asarray(
        random.normal(size=(size, size, 3) if ours is depthwise else (size, size, 3, 4)),
        jnp.float32,
    )

    def real(images: Any, kernel: Any) -> Any:
        kernel = kernel[..., None] if ours is depthwise else kernel
        return getattr(keras.ops, theirs)(
            images, kernel, strides=stride, padding=padding, dilation_rate=dilation
        )

    expected, backward = jax.vjp(real, images, kernel)
    actual, lowered_backward = jax.vjp(
        lambda *a: ours(*a, (stride, stride), padding, (dilation, dilation)), images, kernel
    )
    np.testing.assert_allclose(actual, expected, atol=2e-5)
    upstream = jnp.asarray(random.normal(size=expected.shape), jnp.float32)
    for mine, real_one in zip(lowered_backward(upstream), backward(upstream), strict=True):
        np.testing.assert_allclose(mine, real_one, atol=3e-5)


@pytest.mark.parametrize("make", NETWORKS)
def test_a_lowered_network_gives_the_same_maps_and_gradients(make: Any) -> None:
    plain = make(input_shape=(32, 32, 3), include_top=False, weights=None)
    rounder(plain)
    lowered = lower_for_cpu(plain)
    assert [w.shape for w in lowered.weights] == [w.shape for w in plain.weights]
    assert [w.shape for w in lowered.trainable_variables] == [
        w.shape for w in plain.trainable_variables
    ]
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    (expected, expected_gradients), (actual, gradients) = (
        maps_and_gradients(model, plain, images) for model in (plain, lowered)
    )
    close(actual, expected)
    for mine, real in zip(gradients, expected_gradients, strict=True):
        close(mine, real)


def rounder(model: keras.Model) -> None:
    """Move normalization away from its trivial start, so that mixed-up weights would show."""
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights(
                [random.uniform(0.8, 1.2, weight.shape) for weight in layer.get_weights()]
            )


def maps_and_gradients(model: keras.Model, plain: keras.Model, images: Any) -> tuple[Any, Any]:
    rest = [v.value for v in plain.non_trainable_variables]

    def loss(trainable: Any) -> tuple[Any, Any]:
        maps = model.stateless_call(trainable, rest, images, training=False)[0]
        return jnp.mean(maps**2), maps

    gradients, maps = jax.jit(jax.grad(loss, has_aux=True))(
        [v.value for v in plain.trainable_variables]
    )
    return maps, gradients


def close(actual: Any, expected: Any) -> None:
    scale = max(float(np.abs(expected).max()), 1e-6)
    np.testing.assert_allclose(actual / scale, expected / scale, atol=2e-5)


@pytest.mark.slow
def test_statistics_of_a_training_step_equal_the_plain_networks() -> None:
    plain = efficientnet_lite0(input_shape=(32, 32, 3), weights=None)
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype("float32")
    weights = [
        [v.value for v in part]
        for part in (plain.trainable_variables, plain.non_trainable_variables)
    ]
    expected, actual = (
        jax.jit(lambda *a, model=model: model.stateless_call(*a, training=True)[1])(
            *weights, images
        )
        for model in (plain, lower_for_cpu(plain))
    )
    # deeper statistics are of 1x1 maps of 4 images: they amplify rounding
    for mine, real in zip(actual[:12], expected[:12], strict=True):
        np.testing.assert_allclose(mine, real, rtol=1e-4, atol=1e-5)


def lowered_layer(layer: layers.Layer, channels: int) -> layers.Layer:
    images = keras.Input((8, 8, channels))
    return lower_for_cpu(keras.Model(images, layer(images))).layers[-1]


@pytest.mark.parametrize(
    ("layer", "channels", "kind"),
    [
        (layers.DepthwiseConv2D(3, padding="same"), 6, ShiftedDepthwiseConv2D),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 6, layers.DepthwiseConv2D),
        (layers.Conv2D(4, 1, strides=2), 6, MatmulConv2D),
        (layers.Conv2D(4, 1, groups=2), 6, layers.Conv2D),
        (layers.Conv2D(4, 3), 3, PatchesConv2D),
        (layers.Conv2D(4, 7), 3, layers.Conv2D),
        (layers.Conv2D(4, 3), 6, layers.Conv2D),
        (layers.SeparableConv2D(4, 3), 6, layers.SeparableConv2D),
    ],
)
def test_only_convolutions_that_gain_are_lowered(
    layer: layers.Layer, channels: int, kind: type
) -> None:
    assert type(lowered_layer(layer, channels)) is kind


@pytest.mark.parametrize(
    ("layer", "channels"),
    [(layers.Conv2D(4, 1, strides=2), 6), (layers.Conv2D(4, 3), 3), (layers.DepthwiseConv2D(3), 6)],
)
def test_bias_and_activation_are_kept(layer: layers.Layer, channels: int) -> None:
    layer.activation = keras.activations.relu
    lowered = lowered_layer(layer, channels)
    weights = [np.random.default_rng(2).normal(size=w.shape) for w in layer.weights]
    layer.set_weights(weights)
    lowered.set_weights(weights)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, channels)).astype("float32")
    np.testing.assert_allclose(lowered(images), layer(images), atol=1e-5)


def test_layers_that_are_not_trained_stay_so() -> None:
    layer = layers.Conv2D(4, 1)
    layer.trainable = False
    assert not lowered_layer(layer, 6).trainable
