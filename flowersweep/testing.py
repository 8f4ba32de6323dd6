"""For tests, ours and those of extension authors: a network that needs no download and no time."""

from __future__ import annotations

import keras


def tiny_backbone(
    *, input_shape: tuple[int, int, int], include_top: bool = False, weights: str | None = None
) -> keras.Model:
    """Return a network of two convolutions: images (n, H, W, 3) in 0..255 to maps (n, H/4, W/4,
    16). It has no pretrained weights.
    """
    images = keras.Input(input_shape)
    maps = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    maps = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(maps)
    maps = keras.layers.BatchNormalization()(maps)
    maps = keras.layers.ReLU()(maps)
    maps = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(maps)
    return keras.Model(images, maps, name="tiny")
