"""Several backbones trained as one network: what each member is taught, and that the whole is a
model like any other.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flowersweep.config.paths import with_settings
from flowersweep.config.schema import Config, Model
from flowersweep.data.pipeline import read_images
from flowersweep.models.cpu.lowering import lower_for_cpu
from flowersweep.runtime import compiles
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.losses import focal_cross_entropy
from flowersweep.training.stages.stage import heads
from flowersweep.training.step import joint_loss, mean_log_probs
from tests.tiny import finetuning, tiny

TINY = {"backbone": {"_target_": "tiny_backbone"}}
SCALED = {**TINY, "preprocess": {"_target_": "keras.applications.mobilenet_v2.preprocess_input"}}
JOINT = Model(
    name="joint", members={"one": TINY, "other": SCALED}, weights="none", ensemble_loss=0.25
)
FROZEN = tiny(model=JOINT)
FINETUNE = tiny(
    model=JOINT,
    train=finetuning(),
)
FOLDED = with_settings(FROZEN, {"data.folds": 3})
BOTH = pytest.mark.parametrize("config", [FROZEN, FINETUNE], ids=["frozen", "finetune"])
ALL = pytest.mark.parametrize(
    "config", [FROZEN, FINETUNE, FOLDED], ids=["frozen", "finetune", "folds"]
)


def trained(config: Config, context: TrainingContext) -> Checkpoint:
    return trial.advance(config, Checkpoint(), config.train.all_epochs, context)[0]


def test_without_the_ensembles_loss_each_member_is_taught_as_it_would_be_alone() -> None:
    chance = np.random.default_rng(0)
    features, targets = (
        chance.normal(size=(6, 5)).astype(np.float32),
        np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]],
    )
    kernel, bias = (
        chance.normal(size=(5, 3)).astype(np.float32),
        chance.normal(size=6).astype(np.float32),
    )

    def loss(logits: Any) -> Any:
        return focal_cross_entropy(logits, targets, label_smoothing=0.1)

    def joint(kernel: Any, bias: Any, share: float) -> Any:
        return joint_loss(loss, heads(features, kernel, bias, (2, 3)), jnp.float32(share))

    together = jax.grad(joint, argnums=(0, 1))(kernel, bias, 0.0)
    first = jax.grad(lambda kernel, bias: loss(features[:, :2] @ kernel + bias), argnums=(0, 1))(
        kernel[:2], bias[:3]
    )
    second = jax.grad(lambda kernel, bias: loss(features[:, 2:] @ kernel + bias), argnums=(0, 1))(
        kernel[2:], bias[3:]
    )
    for whole, *parts in zip(together, first, second, strict=True):
        np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-6)
    logits = heads(features, kernel, bias, (2, 3))
    mean = np.mean([jax.nn.softmax(each) for each in logits], axis=0)
    np.testing.assert_allclose(np.exp(mean_log_probs(logits)), mean, atol=1e-6)
    assert float(joint(kernel, bias, 0.5) - joint(kernel, bias, 0.0)) == pytest.approx(
        float(0.5 * loss(jnp.log(mean))), rel=1e-4
    )


@pytest.mark.slow
@ALL
def test_a_joint_training_learns_and_is_saved_and_run_as_one_model(
    config: Config, context: TrainingContext, tmp_path: Path
) -> None:
    checkpoint, epochs = trial.advance(config, Checkpoint(), config.train.all_epochs, context)
    assert epochs[-1].metrics["train/loss"] < epochs[0].metrics["train/loss"]
    result = trial.finish(config, checkpoint, context)
    built = trial.build_keras_model(config, checkpoint, context, temperature=2.0)
    built.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    dataset = context.dataset(config.data)
    images = read_images(dataset.splits["test"], range(len(dataset.splits["test"])))
    logits = 2 * model.predict(images, verbose=0)
    np.testing.assert_allclose(logits, result.logits["test"], atol=2e-4)
    np.testing.assert_allclose(
        2 * lower_for_cpu(model).predict(images, verbose=0), result.logits["test"], atol=2e-4
    )


@BOTH
def test_the_share_of_the_ensembles_loss_is_a_number_that_compiles_nothing_and_counts(
    config: Config, context: TrainingContext
) -> None:
    first = trial.finish(config, trained(config, context), context)
    before = compiles()
    other = with_settings(config, {"model.ensemble_loss": 5.0})
    second = trial.finish(other, trained(other, context), context)
    assert compiles() == before
    assert context.compile_group_keys(other) == context.compile_group_keys(config)
    assert not np.array_equal(first.logits["tune"], second.logits["tune"])


def test_members_take_the_features_that_each_has_in_the_cache(context: TrainingContext) -> None:
    both = context.get_shared(FROZEN).features["tune"]
    cached = {*(context.cache / "features").iterdir()}
    for place, member in enumerate((TINY, SCALED)):
        alone = context.get_shared(
            tiny(model=Model(name="alone", weights="none", **member))
        ).features["tune"]
        np.testing.assert_array_equal(both[:, place * 16 : (place + 1) * 16], alone)
    assert {*(context.cache / "features").iterdir()} == cached


def test_a_network_alone_is_trained_as_before(context: TrainingContext) -> None:
    alone = tiny()
    with_share = replace(alone, model=replace(alone.model, ensemble_loss=1.0))
    np.testing.assert_array_equal(
        trial.finish(alone, trained(alone, context), context).logits["tune"],
        trial.finish(with_share, trained(with_share, context), context).logits["tune"],
    )
