"""Several networks as one Keras model of standard layers: each at its temperature, their
probabilities or logits pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

SMALLEST = 1e-12  # a probability: what a member holds impossible must not cost the pool everything

# a backbone and its head; or a whole network, to logits
Part = tuple[keras.Model, layers.Dense | None]


def build_ensemble_model(
    parts: Sequence[Part],
    *,
    pooling: str = "linear",
    weights: Sequence[float] | None = None,
    temperatures: Sequence[float] | None = None,
    recalibration: float = 1.0,
    image_size: tuple[int, int] | None = None,
) -> keras.Model:
    """Return a model from images 0..255 (N, H, W, 3) to float32 logits (N, classes) of the pool.

    The logits are the logarithms of the weighted mean of the parts' probabilities (``linear``), or
    the weighted mean of their log-probabilities (``geometric``), over ``recalibration``. A backbone
    that several parts name runs once. Images come in ``image_size``, or that of the first part; a
    part for another size sees them resized as the files are: bilinear, antialiased, rounded.
    """
    shares = weights or [1 / len(parts)] * len(parts)
    images = keras.Input(
        (*(image_size or parts[0][0].input_shape[1:3]), 3), name="images", dtype="float32"
    )
    sized: dict[tuple[int, int], Any] = {images.shape[1:3]: images}
    seen: dict[int, Any] = {}
    chances = []
    for (network, head), temperature in zip(parts, temperatures or [1.0] * len(parts), strict=True):
        size = network.input_shape[1:3]
        if size not in sized:
            # no layer of this: Keras' trains whatever comes after it, where nobody says otherwise
            sized[size] = ops.round(ops.image.resize(images, size, antialias=True))
        if id(network) not in seen:
            seen[id(network)] = network(sized[size])
        logits = seen[id(network)] if head is None else head(seen[id(network)])
        chances.append(ops.maximum(ops.softmax(logits / temperature), SMALLEST))
    terms = [
        share * (chance if pooling == "linear" else ops.log(chance))
        for share, chance in zip(shares, chances, strict=True)
    ]
    whole = sum(terms[1:], start=terms[0])
    return keras.Model(
        images,
        (ops.log(whole) if pooling == "linear" else whole) / recalibration,
        name="classifier",
    )


def concatenated(backbones: Sequence[keras.Model]) -> keras.Model:
    """Return a model from images to the features of all backbones side by side, (N, D)."""
    images = keras.Input(backbones[0].input_shape[1:], name="images", dtype="float32")
    features = layers.Concatenate(dtype="float32", name="features")(
        [backbone(images) for backbone in backbones]
    )
    return keras.Model(images, features, name="backbone")
