"""A backbone of keras-hub as a network from images in 0..255 to feature maps or one vector."""

from __future__ import annotations

import hashlib
import json
import warnings
from typing import Any

import keras
from keras import layers, ops

from flowersweep.errors import ConfigError
from flowersweep.models.hub.preprocessing import Preprocessing
from flowersweep.models.hub.presets import open_preset
from flowersweep.models.hub.tokens import copy_weights, pooled

PRESET = "preset_"  # how the name of every such network begins
# Keras' own dropping needs a generator in the state of a training: here the step drops
DROPPING = ("drop_path", "drop_path_rate", "dropout_rate", "attention_dropout")


def keras_hub(
    *,
    input_shape: tuple[int, int, int],
    preset: str | None = None,
    pooling: str = "auto",
    image_size: int | None = None,
    include_top: bool = False,
    weights: str | None = None,
) -> keras.Model:
    """Build the backbone of a preset, with the preset's own preprocessing in front.

    Takes images (N, H, W, 3) in 0..255; gives the last feature map (N, h, w, c) of a network that
    has one, or a vector (N, D) of one that has tokens.

    Args:
        input_shape: Of the images. They are resized within where the network sees another size.
        preset: A name of keras-hub, an address on a hub, or a folder.
        pooling: How tokens become a vector: class_token, mean (of the patches), both; or auto,
            the class token where there is one.
        image_size: Pixels of the side that the network sees, rounded to whole patches; None: those
            that it was made for. Position embeddings are resized.
        include_top: Only False.
        weights: None for random ones.

    Raises:
        ConfigError: There is no such preset, or it is not for images.
    """
    if preset is None or include_top:
        raise ConfigError(
            "model=keras_hub needs model.preset=NAME or a folder, such as dinov2_small"
        )
    whole, seen = open_preset(preset, weights=weights is not None)
    made_for = getattr(whole, "vision_encoder", whole)
    config = made_for.get_config()
    key = "image_shape" if "image_shape" in config else "input_shape"
    if key not in config:
        raise ConfigError(f"model.preset={preset}: {type(whole).__name__} sees no images")
    if seen is None:
        raise ConfigError(
            f"model.preset={preset} has no image_converter.json, which says how images are scaled. "
            "keras_hub.layers.ImageConverter.from_preset(NAME).save_to_preset(FOLDER) writes it"
        )
    own = seen.size or config[key][0] or input_shape[0]
    size = _whole_patches(image_size or own, config)
    # the precision of this process, whatever a half of the preset was saved in
    config |= {key: (size, size, 3), "dtype": keras.config.dtype_policy()}
    config |= {name: 0.0 for name in DROPPING if name in config}
    images = keras.Input(input_shape, name="pixels", dtype="float32")
    pixels = _preprocessed(images, seen, size)
    try:
        network = _build(type(made_for), config)
        if weights is not None:
            copy_weights(made_for, network)
        outputs = pooled(network, pixels, pooling, preset)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model.preset={preset} at {size} pixels: {error}") from error
    return keras.Model(images, outputs, name=_name(network, seen, pooling))


def _build(kind: type[keras.Model], config: dict[str, Any]) -> keras.Model:
    """Return a network of a class, which can then be called without warnings."""
    with warnings.catch_warnings():
        # Swin calls its attention with a mask of its own, and Keras takes it for one of padding
        warnings.filterwarnings("ignore", message=".*passed an input with a mask")
        network = kind.from_config(config)
    for layer in network._flatten_layers():
        if type(layer).__name__ == "WindowAttention":
            layer.supports_masking = True
    return network


def _whole_patches(size: int, config: dict[str, Any]) -> int:
    """Return the size next to this one that is cut into patches, and these into windows."""
    patch = config.get("patch_size") or 1
    side = patch if isinstance(patch, int) else patch[0]
    if "window_size" in config:
        side *= config["window_size"] * 2 ** (len(config["depths"]) - 1)
    return int(max(1, round(size / side)) * side)


def _preprocessed(images: Any, seen: Preprocessing, size: int) -> Any:
    """Resize and scale images in 0..255 as the preset's own preprocessing does, in Keras' own
    layers.
    """
    if images.shape[1:3] != (size, size):
        images = ops.image.resize(
            images,
            (size, size),
            interpolation=seen.interpolation,
            antialias=seen.antialias,
        )
    return layers.Rescaling(seen.scale, seen.offset, dtype="float32", name="scaled")(images)


def _name(network: keras.Model, seen: Preprocessing, pooling: str) -> str:
    """Return a name that differs for any two networks whose weights might be alike, and which do
    not compute the same.
    """
    config = {
        key: value
        for key, value in network.get_config().items()
        if key not in ("name", "trainable", "dtype")
    }
    text = json.dumps([config, seen, pooling], sort_keys=True, default=str)
    kind = type(network).__name__.removesuffix("Backbone").lower()
    return f"{PRESET}{kind}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
