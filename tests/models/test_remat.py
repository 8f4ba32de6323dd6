"""A network whose maps are computed anew in the backward pass is the same network."""

from __future__ import annotations

from typing import Any

import jax
import keras
import numpy as np
import pytest
from keras import layers

from flowersweep.models.remat import rematerialised


def residual() -> keras.Model:
    """Blocks with a shortcut, a network in a network, and preprocessing before it."""
    images = keras.Input((16, 16, 3))
    maps = layers.Conv2D(4, 3, padding="same")(images)
    for _ in range(6):
        inner = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(maps))
        maps = layers.Add()([maps, layers.ReLU()(inner)])
    network = keras.Model(images, maps)
    pixels = keras.Input((16, 16, 3))
    pooled = layers.GlobalAveragePooling2D()(network(layers.Rescaling(1 / 127.5, -1.0)(pixels)))
    return keras.Model(pixels, layers.Dense(3)(pooled))


class Block(layers.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = layers.Dense(12, activation="gelu"), layers.Dense(3)
        self.dropout = layers.Dropout(0.0)

    def call(self, tokens: Any, training: bool = False) -> Any:
        return tokens + self.dropout(self.narrow(self.wide(tokens)), training=training)


class Encoder(layers.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.blocks = [Block() for _ in range(4)]

    def call(self, tokens: Any, training: bool = False) -> Any:
        for block in self.blocks:
            tokens = block(tokens, training=training)
        return tokens


def transformer() -> keras.Model:
    images = keras.Input((16, 16, 3))
    tokens = layers.Reshape((256, 3))(images)
    return keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling1D()(Encoder()(tokens))))


@pytest.mark.parametrize("training", [False, True], ids=["pretrained statistics", "of the batch"])
@pytest.mark.parametrize(("make", "parts"), [(residual, 3), (transformer, 4)])
def test_gradients_and_statistics_are_those_of_the_plain_network(
    make: Any, parts: int, training: bool
) -> None:
    network = make()
    state = (
        [v.value for v in network.trainable_variables],
        [v.value for v in network.non_trainable_variables],
    )
    images = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)

    def gradients(call: Any) -> Any:
        def loss(trainable: Any, non_trainable: Any) -> Any:
            outputs, changed = call(trainable, non_trainable, images, training=training)
            return (outputs**2).mean(), changed

        return jax.value_and_grad(loss, has_aux=True)

    plain = gradients(network.stateless_call)(*state)
    call = gradients(rematerialised(network))
    assert str(jax.make_jaxpr(call)(*state)).count("prevent_cse=True") >= parts
    for ours, theirs in zip(jax.tree.leaves(call(*state)), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-5)
