"""Tokens of a transformer: pooled to a vector, and position embeddings for another image size."""

from __future__ import annotations

from math import isqrt
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from flowersweep.errors import ConfigError


def pooled(network: keras.Model, pixels: Any, pooling: str, preset: str) -> Any:
    """Return feature maps (N, h, w, c) of a network that has some, and else a vector (N, D) that
    ``pooling`` makes of its tokens.

    A network that pools its tokens itself has no class token: its own vector takes its place.
    """
    outputs = _apply(network, network.output, pixels)
    if isinstance(outputs, dict):  # a map of each stage
        outputs = outputs[getattr(network, "stage_names", [*outputs])[-1]]
    if len(outputs.shape) == 4:
        if pooling != "auto":
            raise ConfigError(
                f"model.pooling={pooling}: {preset} has feature maps and no tokens. Leave "
                "model.pooling out"
            )
        return outputs
    own, patches = _parts(network, outputs, pixels)
    if pooling == "auto":
        pooling = "mean" if own is None else "class_token"
    vectors = []
    if pooling != "mean":
        vectors.append(_require(own, f"{pooling}: {preset} has no class token. Use mean"))
    if pooling != "class_token":
        tokens = _require(patches, f"{pooling}: {preset} gives no tokens. Use class_token")
        vectors.append(layers.GlobalAveragePooling1D(dtype="float32", name="mean")(tokens))
    return layers.Concatenate(dtype="float32", name="both")(vectors) if vectors[1:] else vectors[0]


def _parts(network: keras.Model, outputs: Any, pixels: Any) -> tuple[Any, Any]:
    """Return the vector of the class token, or the one that a network pools by itself, and the
    tokens of the patches; None for what there is not.
    """
    if len(outputs.shape) == 2:
        own = layers.Activation("linear", dtype="float32", name="vector")(outputs)
        head = getattr(network, "head", None)
        return own, None if head is None else _apply(network, head.input, pixels)
    before = _prefix(network, outputs)
    if not before:
        return None, outputs
    own = layers.Cropping1D((0, outputs.shape[1] - 1), name="class_token")(outputs)
    own = layers.GlobalAveragePooling1D(dtype="float32", name="vector")(own)
    return own, layers.Cropping1D((before, 0), name="patches")(outputs)


def _require(part: Any, message: str) -> Any:
    if part is None:
        raise ConfigError(f"model.pooling={message}")
    return part


def _apply(network: keras.Model, output: Any, pixels: Any) -> Any:
    """Return an output of a network for pixels, whatever its one input is called."""
    model = network if output is network.output else keras.Model(network.input, output)
    return model(keras.tree.pack_sequence_as(network.input, [pixels]))


def _prefix(network: keras.Model, tokens: Any) -> int:
    """Return how many tokens come before those of the patches: the class token first."""
    config = network.get_config()
    if "window_size" in config:  # it merges patches, and has no other tokens
        return 0
    patch = config["patch_size"]
    side = patch if isinstance(patch, int) else patch[0]
    return int(tokens.shape[1] - (config["image_shape"][0] // side) ** 2)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give a network the weights of another that differs in its image size alone: position
    embeddings of another length are resized.

    Raises ValueError for weights that differ otherwise.
    """
    for old, new in zip(source.weights, target.weights, strict=True):
        if old.shape == new.shape:
            new.assign(old)
        elif not keras.backend.is_int_dtype(new.dtype):  # else a count of the positions
            new.assign(_resized(ops.convert_to_numpy(old), tuple(new.shape)))


def _resized(table: np.ndarray, shape: tuple[int, ...]) -> Any:
    """Return position embeddings (..., positions, d) for another number of positions.

    They are a square grid after the embeddings of the tokens before it. It is resized as published
    for vision transformers (Dosovitskiy et al. 2021, section 3.2): bicubic here.
    """
    before, after = table.shape[-2], shape[-2]
    old, new = isqrt(before), isqrt(after)
    prefix = before - old**2
    if table.shape[-1] != shape[-1] or new**2 + prefix != after:
        raise ValueError(f"its weights {table.shape} do not fit {shape}")
    grid = table[..., prefix:, :].reshape(1, old, old, -1)
    grid = ops.image.resize(grid, (new, new), interpolation="bicubic", antialias=True)
    rest = ops.convert_to_numpy(grid).reshape(*table.shape[:-2], new**2, -1)
    return np.concatenate([table[..., :prefix, :], rest], axis=-2)
