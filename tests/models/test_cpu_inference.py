"""OpenVINO computes what Keras does, the same bits in every batch, and tells nobody."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import pytest
from keras import layers, ops

from flowersweep.models.backbones import efficientnet_lite0
from flowersweep.models.classifier import undrawn
from flowersweep.models.cpu.inference import CpuNetwork, compile_for_cpu, predictor
from flowersweep.testing import tiny_backbone

SIDES = (9, 8)
LAYERS = [  # each on maps (n, 9, 8, 6)
    layers.Activation("gelu"),
    layers.Activation("hard_swish"),
    layers.Activation("relu6"),
    layers.Activation("swish"),
    layers.AveragePooling2D(3, strides=2, padding="same"),
    layers.AveragePooling2D(2),
    layers.BatchNormalization(),
    layers.Conv2D(4, 3, padding="same", dilation_rate=2),
    layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
    layers.Conv2D(4, 5, groups=2),
    layers.Cropping2D(((1, 0), (2, 1))),
    layers.Dense(5, activation="softmax"),
    layers.DepthwiseConv2D(3, depth_multiplier=2, activation="elu"),
    layers.DepthwiseConv2D(5, strides=2, padding="same"),
    layers.GlobalAveragePooling2D(keepdims=True),
    layers.GlobalMaxPooling2D(),
    layers.GroupNormalization(2),
    layers.LayerNormalization(),
    layers.LeakyReLU(0.1),
    layers.MaxPooling2D(3, strides=2, padding="same"),
    layers.PReLU(),
    layers.Permute((2, 1, 3)),
    layers.RMSNormalization(),
    layers.Rescaling(1 / 127.5, offset=-1),
    layers.Reshape((72, 6)),
    layers.SeparableConv2D(4, 3),
    layers.SpatialDropout2D(0.5),
    layers.UnitNormalization(),
    layers.ZeroPadding2D(((1, 0), (0, 2))),
]
NETWORKS = [
    efficientnet_lite0,
    *(
        pytest.param(getattr(keras.applications, name), marks=pytest.mark.slow)
        for name in ("ConvNeXtTiny", "MobileNetV3Small")
    ),
]


def filled(model: keras.Model, largest: float = 0.2) -> keras.Model:
    """Give a model weights at which every layer shows."""
    random = np.random.default_rng(1)
    for weight in model.weights:
        low = 0.5 if any(word in weight.path for word in ("variance", "gamma")) else -largest
        weight.assign(random.uniform(low, 1.0 if low > 0 else largest, weight.shape))
    return model


def on_maps(apply: Any, channels: int = 6) -> keras.Model:
    """Return a model whose maps come from a convolution, so that their channels stand first."""
    images = keras.Input((11, 10, 3))
    maps = layers.Conv2D(channels, 3)(images)
    return filled(keras.Model(images, layers.Flatten()(apply(maps))))


def pixels(model: keras.Model, number: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (number, *model.input_shape[1:])).astype(np.uint8)


def by_keras(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(lambda some: model(some, training=False))(images.astype("float32")))


def require_equal(model: keras.Model, number: int = 3, *, within: float = 1e-5) -> None:
    images = pixels(model, number)
    expected = by_keras(model, images)
    actual = CpuNetwork(model).predict_on_batch(images)
    assert np.std(expected) > 0
    np.testing.assert_allclose(actual, expected, atol=within * float(np.abs(expected).max()))


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_a_layer_gives_what_keras_gives(layer: layers.Layer) -> None:
    require_equal(on_maps(layer))


def squeezed(maps: Any) -> Any:
    weights = layers.Conv2D(6, 1, activation="sigmoid")(ops.mean(maps, (1, 2), keepdims=True))
    return layers.Add()([layers.Multiply()([maps, weights]), maps])


def attended(maps: Any) -> Any:
    tokens = layers.Reshape((-1, 6))(maps)
    return layers.MultiHeadAttention(2, 3)(tokens, tokens)


def mirrored(maps: Any) -> Any:
    return layers.Concatenate()([maps, ops.flip(maps, axis=2), maps[:, ::-1]])


def cubed(maps: Any) -> Any:
    return ops.gelu(maps, approximate=True) + maps**3


def rounded(maps: Any) -> Any:
    return ops.round(4 * maps) + maps


@pytest.mark.parametrize("apply", [squeezed, attended, mirrored, cubed, rounded])
def test_layers_together_give_what_keras_gives(apply: Any) -> None:
    require_equal(on_maps(apply))


def network(make: Any, side: int = 64) -> keras.Model:
    with undrawn():
        maps = make(input_shape=(side, side, 3), include_top=False, weights=None)
    images = keras.Input((side, side, 3))
    features = layers.GlobalAveragePooling2D()(maps(images / 127.5 - 1))
    return filled(keras.Model(images, features), largest=0.05)


@pytest.mark.parametrize("make", NETWORKS)
def test_a_network_gives_the_same_bits_however_images_are_batched(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(make)
    require_equal(model)
    images, compiled = pixels(model, 11), CpuNetwork(model)
    whole = compiled.predict_on_batch(images)
    for first, last in ((0, 1), (1, 3), (2, 9), (10, 11)):
        some = compiled.predict_on_batch(images[first:last])
        np.testing.assert_array_equal(some, whole[first:last])
    monkeypatch.setattr("flowersweep.models.cpu.inference.usable_cores", lambda: [0])
    np.testing.assert_array_equal(CpuNetwork(model).predict_on_batch(images), whole)


def test_no_image_gives_no_row() -> None:
    model = on_maps(layers.GlobalMaxPooling2D())
    rows = CpuNetwork(model).predict_on_batch(np.empty((0, 11, 10, 3), np.uint8))
    assert rows.shape == (0, 6)


def test_a_network_that_openvino_cannot_run_is_run_by_jax(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    model = on_maps(lambda maps: ops.sort(maps, axis=1))
    assert compile_for_cpu(model) is None
    assert "is run by JAX: JAX's operation sort" in caplog.text
    images = pixels(model, 3)
    answer = np.asarray(predictor(model).predict_on_batch(images))
    np.testing.assert_allclose(answer, by_keras(model, images), rtol=1e-3, atol=1e-3)


WATCHED = """
import sys
opened = []
network = {"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"}
sys.addaudithook(lambda event, _: opened.append(event) if event in network else None)
import flowersweep.models.cpu, openvino
print(openvino.Core().available_devices, openvino.convert_model)
assert not opened, opened
"""


def test_openvino_opens_no_connection_and_keeps_no_number_of_the_user(tmp_path: Path) -> None:
    outside = {"CI", "TF_BUILD", "JENKINS_URL"}  # in which it would be silent by itself
    environment = {name: value for name, value in os.environ.items() if name not in outside}
    environment |= {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", WATCHED]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "CPU" in done.stdout
    assert not (tmp_path / "intel").exists()


def test_the_tiny_network_is_compiled() -> None:
    assert isinstance(predictor(network(tiny_backbone, 16)), CpuNetwork)
