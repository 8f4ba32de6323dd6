"""Networks pooled into one: the numbers of evaluation/ensemble, in a model that opens with Keras
alone.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from flowersweep.config.schema import Model
from flowersweep.evaluation.ensemble import POOLINGS, Pool
from flowersweep.models.classifier import Classifier, build
from flowersweep.models.cpu.lowering import lower_for_cpu
from flowersweep.models.ensemble_model import build_ensemble_model

TINY = Model("tiny", {"_target_": "tiny_backbone"}, weights="none")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def network(name: str, size: int, seed: int) -> Classifier:
    made = build(TINY, image_size=(size, size), classes=5, lower=False, finetune=False)
    chance = np.random.default_rng(seed)
    made.set_heads(
        chance.normal(size=(16, 5), scale=3.0).astype(np.float32),
        chance.normal(size=5).astype(np.float32),
    )
    made.backbone.name, made.heads[0].name = name, f"{name}_head"
    return made


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_model_gives_the_logits_of_the_pool_and_is_saved_with_nothing_of_ours(
    pooling: str, tmp_path: Path
) -> None:
    one, two, small = network("one", 32, 0), network("two", 32, 1), network("small", 24, 2)
    pool = Pool(pooling, np.array([0.5, 1.0, 2.0]), np.array([0.5, 0.2, 0.3]), 0.8)
    parts = [
        (one.backbone, one.heads[0]),
        (one.backbone, two.heads[0]),
        (small.backbone, small.heads[0]),
    ]
    made = build_ensemble_model(
        parts,
        pooling=pooling,
        weights=[0.5, 0.2, 0.3],
        temperatures=[0.5, 1.0, 2.0],
        recalibration=0.8,
        image_size=(32, 32),
    )
    made.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(
        tmp_path / "model.keras", custom_objects=None, compile=False, safe_mode=True
    )
    assert sum(layer.name == "one" for layer in loaded.layers) == 1
    # it has the backbone of the first
    assert not any(layer.name == "two" for layer in loaded.layers)
    # as the files are
    resized = np.round(tf.image.resize(IMAGES, (24, 24), antialias=True)).astype(np.float32)
    features = np.asarray(one.backbone(IMAGES))
    logits = [np.asarray(head(features)) for head in (one.heads[0], two.heads[0])] + [
        np.asarray(small.model(resized))
    ]
    expected = pool.logits(logits)
    # a pixel on the half may be rounded the other way by another order of sums: 1 of 255, of 1728
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), expected, atol=5e-3)
    np.testing.assert_allclose(
        lower_for_cpu(loaded).predict(IMAGES, verbose=0), expected, atol=5e-3
    )


def test_a_plain_call_trains_nothing() -> None:
    """A layer that resizes has Keras train the normalisations after it."""
    parts = []
    for name, side in (("large", 16), ("small", 12)):
        images = keras.Input((side, side, 3))
        normalised = keras.layers.BatchNormalization(name=f"{name}_norm")(images)
        pooled = keras.layers.GlobalAveragePooling2D()(normalised)
        parts.append(
            (keras.Model(images, pooled, name=name), keras.layers.Dense(3, name=f"{name}_head"))
        )
    made = build_ensemble_model(parts)
    images = IMAGES[:, :16, :16].astype(np.float32)
    before = [np.array(weight) for weight in made.get_weights()]
    np.testing.assert_allclose(made(images), made.predict_on_batch(images), rtol=1e-5)
    for old, new in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
