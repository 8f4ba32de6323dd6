"""Fine-tuning of transformers: rates by depth, low-rank adaptation, and blocks that are skipped."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flowersweep.config.schema import Config, Model
from flowersweep.errors import ConfigError
from flowersweep.models.classifier import Classifier, build
from flowersweep.models.drop_path import _skipped, blocks, drop_path
from flowersweep.runtime import compiles
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from tests.models.presets import SIZE, TOKENS, saved
from tests.training.test_layer_rates import FINETUNE, weights

needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="keras-hub is not installed"
)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Config:
    preset = str(saved("vit", tmp_path_factory.mktemp("vit")))
    model = Model("vit", {"_target_": "keras_hub"}, weights="preset", preset=preset, dropout=0.0)
    return replace(FINETUNE, model=model)


def built(config: Model, *, finetune: bool = True) -> Classifier:
    return build(config, image_size=(SIZE, SIZE), classes=3, lower=False, finetune=finetune)


def run(model: keras.Model) -> np.ndarray:
    """What a model makes of the images, as one program."""
    return np.asarray(jax.jit(lambda images: model(images))(PIXELS.astype(np.float32)))


@needs_hub
def test_heights_rise_from_block_to_block(vit: Config) -> None:
    made = built(vit.model)
    by_path = [
        (v.path, height)
        for v, height in zip(made.backbone.trainable_variables, made.heights, strict=True)
    ]
    parts = [
        [height for path, height in by_path if part in path]
        for part in ("embedding", "transformer_block_1", "transformer_block_2", "encoder/ln/")
    ]
    assert all(max(lower) < min(upper) for lower, upper in pairwise(parts))
    assert sum(map(len, parts)) == len(by_path)


@pytest.mark.slow
@needs_hub
def test_blocks_are_skipped_by_a_traced_rate_that_compiles_nothing_and_at_rest_changes_no_bit(
    vit: Config, context: TrainingContext
) -> None:
    _, plain = weights(vit, context, {})
    before = compiles()
    _, at_rest = weights(vit, context, {"model.drop_path": 0.0})
    _, skipping = weights(vit, context, {"model.drop_path": 0.5})
    _, again = weights(vit, context, {"model.drop_path": 0.5})
    assert compiles() == before
    for one, same, other, twice in zip(plain, at_rest, skipping, again, strict=True):
        np.testing.assert_array_equal(one, same)
        np.testing.assert_array_equal(other, twice)
    assert any(not np.allclose(one, other) for one, other in zip(plain, skipping, strict=True))


@needs_hub
@pytest.mark.parametrize("family", [pytest.param(f, marks=pytest.mark.slow) for f in TOKENS])
def test_every_family_of_tokens_has_blocks_to_skip_and_attention_to_adapt(
    family: str, tmp_path: Path
) -> None:
    config = Model("hub", {"_target_": "keras_hub"}, weights="preset", dropout=0.0)
    config = replace(config, preset=str(saved(family, tmp_path / family)), lora_rank=2)
    made = built(config)
    assert len(blocks(made.backbone)) == (3 if family == "swin" else 2)
    adapted = [v.path for v in made.backbone.trainable_variables if "lora" in v.path]
    # Swin has three blocks with one matrix for both, SigLIP pools by a third attention
    assert len(adapted) == {"swin": 6, "siglip": 12}.get(family, 8)
    plain = run(made.pooled)
    with drop_path(jax.random.key(0), jnp.float32(0.9)):
        skipping = run(made.pooled)
    assert not np.allclose(plain, skipping)
    np.testing.assert_array_equal(run(made.pooled), plain)


def test_a_skipped_block_adds_nothing_and_the_mean_stays() -> None:
    inputs, outputs = jnp.ones((4000, 3)), jnp.full((4000, 3), 3.0)
    skipped = np.asarray(_skipped(jax.random.key(1), jnp.float32(0.25), inputs, outputs))
    assert {*np.unique(skipped.round(4))} == {1.0, np.float32(1 + 2 / 0.75).round(4)}
    assert (skipped == skipped[:, :1]).all()  # an image as a whole
    assert (skipped[:, 0] == 1.0).mean() == pytest.approx(0.25, abs=0.03)
    assert skipped.mean() == pytest.approx(3.0, abs=0.1)


@needs_hub
@pytest.mark.slow
def test_low_rank_adaptation_trains_small_matrices_alone_and_is_saved_merged(
    vit: Config, context: TrainingContext, tmp_path: Path
) -> None:
    config = replace(vit, model=replace(vit.model, lora_rank=2))
    network = context.classifier(config).backbone
    paths = [v.path for v in network.trainable_variables]
    assert {path.rpartition("/")[2] for path in paths} == {"lora_kernel_a", "lora_kernel_b", "bias"}
    assert all("/query/" in path or "/value/" in path for path in paths)
    made = built(vit.model)
    before = run(made.backbone)
    np.testing.assert_allclose(run(network), before, atol=1e-6)
    assert context.classifier(config).pretrained == context.classifier(vit).pretrained

    trained, _ = trial.advance(config, Checkpoint(), 2, context)
    again = trial.build_trained_classifier(config, trained, context)
    assert not np.allclose(run(again.backbone), before, atol=1e-4)
    model = again.model
    model.save(tmp_path / "model.keras")
    opened = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(run(opened), run(model), atol=1e-5)
    assert not [v.path for v in opened.variables if "lora" in v.path]


@pytest.mark.parametrize("settings", [{"lora_rank": 2}, {"drop_path": 0.1}])
def test_a_network_without_blocks_says_so(
    settings: dict[str, Any], context: TrainingContext
) -> None:
    config = replace(FINETUNE, model=replace(FINETUNE.model, **settings))
    with pytest.raises(ConfigError, match=f"model.{next(iter(settings))}=.* a transformer"):
        context.classifier(config)
