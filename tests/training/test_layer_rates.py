"""The rate of each layer: it falls from the head to the image, and is 0 for the first layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from flowersweep.config.paths import with_settings
from flowersweep.config.schema import Config, Model
from flowersweep.config.validation import validate
from flowersweep.errors import ConfigError
from flowersweep.models.classifier import build
from flowersweep.runtime import compiles
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from tests.tiny import finetuning, tiny

FINETUNE = tiny(
    train=finetuning(steps_per_epoch=1, learning_rate=1e-2, weight_decay=0.1),
    optimizer={"_target_": "keras.optimizers.SGD", "name": "sgd"},
)
# of the variables of the tiny backbone: a convolution, a normalisation, a convolution with a bias
LAYERS = np.array([0, 1, 1, 2, 2])
HEIGHTS = (LAYERS + 0.5) / 3


def weights(
    config: Config, context: TrainingContext, settings: Mapping[str, Any]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The weights before and after fine-tuning with these settings."""
    config = with_settings(config, dict(settings))
    frozen, _ = trial.advance(config, Checkpoint(), 1, context)
    before = context.main_stage(config).begin(frozen.state).trainable
    after, _ = trial.advance(config, frozen, config.train.all_epochs, context)
    assert after.state is not None
    return [*map(np.asarray, before)], [*map(np.asarray, after.state.trainable)]


def test_heights_are_those_of_the_layers_from_the_images_on(context: TrainingContext) -> None:
    np.testing.assert_allclose(context.classifier(FINETUNE).heights, HEIGHTS)


def test_every_member_of_several_has_all_heights() -> None:
    tiny_network = {"backbone": {"_target_": "tiny_backbone"}}
    made = build(
        Model(name="joint", members={"one": tiny_network, "other": tiny_network}, weights="none"),
        image_size=(32, 32),
        classes=3,
        lower=True,
        finetune=True,
    )
    np.testing.assert_allclose(made.heights, [*HEIGHTS, *HEIGHTS])


@pytest.mark.slow
def test_heights_rise_along_a_published_network() -> None:
    made = build(
        Model(
            name="mobilenet",
            backbone={"_target_": "keras.applications.MobileNetV2", "alpha": 0.35},
            weights="none",
            feature_views=2,
        ),
        image_size=(32, 32),
        classes=3,
        lower=False,
        finetune=True,
    )
    variables = made.backbone.trainable_variables
    assert len(made.heights) == len(variables)
    assert [*made.heights] == sorted(made.heights)
    by_path = {v.path: height for v, height in zip(variables, made.heights, strict=True)}
    first, last = (
        next(height for path, height in by_path.items() if path.startswith(layer))
        for layer in ("Conv1/", "Conv_1_bn/")
    )
    assert first < 0.01
    assert last > 0.99
    # kernel, and what normalises it: a convolution is a layer, and so is its normalisation
    assert len(set(made.heights)) == sum(bool(v.path.endswith("kernel")) for v in variables) + sum(
        bool(v.path.endswith("gamma")) for v in variables
    )


@pytest.mark.parametrize("decay", [0.9, 0.1, 1e-3])
def test_a_layer_moves_by_its_share_of_what_it_would_move(
    decay: float, context: TrainingContext
) -> None:
    before, plain = weights(FINETUNE, context, {})
    same, decayed = weights(FINETUNE, context, {"train.layer_decay": decay})
    for n, (old, new, slower) in enumerate(zip(before, plain, decayed, strict=True)):
        np.testing.assert_array_equal(old, same[n])
        factor = decay ** (1.0 - HEIGHTS[n]) if n < len(HEIGHTS) else 1.0
        np.testing.assert_allclose(slower - old, factor * (new - old), rtol=2e-3, atol=2e-7)
        assert np.abs(new - old).max() > 0.0


def test_decay_and_the_rate_of_the_backbone_are_those_of_a_loop_by_hand(
    context: TrainingContext,
) -> None:
    """Three steps of SGD, written in NumPy around Keras' own gradient of the whole network."""
    import jax

    settings = {
        "train.layer_decay": 0.2,
        "train.backbone_lr_multiplier": 0.5,
        "train.frozen_share": 0.4,
        "train.steps_per_epoch": 3,
        "train.weight_decay": 0.0,
        "model.dropout": 0.0,
        "schedule.warmup": 0.0,
        "loss.label_smoothing": 0.0,
    }
    before, after = weights(FINETUNE, context, settings)
    from flowersweep.data.pipeline import shuffled

    dataset, network = context.dataset(FINETUNE.data), context.classifier(FINETUNE).backbone
    fixed = [v.value for v in network.non_trainable_variables]

    def loss(values: list[Any], images: Any, labels: Any) -> Any:
        pixels = images.astype("float32")
        features, _ = network.stateless_call(values[:-2], fixed, pixels, training=False)
        logits = features @ values[-2] + values[-1]
        return keras.ops.mean(
            keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        )

    values = before
    batches = shuffled(dataset.splits["train"], dataset.image_size, 8, seed=0, epoch=1, steps=3)
    for step, (images, labels) in enumerate(batches):
        rate = 1e-2 * 0.5 * (1.0 + np.cos(np.pi * step / 3))
        gradients = jax.grad(loss)(values, images, labels)
        factors = [0.0 if height < 0.4 else 0.5 * 0.2 ** (1.0 - height) for height in HEIGHTS] + [
            1.0,
            1.0,
        ]
        values = [
            value - rate * factor * np.asarray(gradient)
            for value, factor, gradient in zip(values, factors, gradients, strict=True)
        ]
    for ours, theirs in zip(after, values, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("share", "still"), [(0.0, 0), (0.3, 1), (0.5, 1), (0.7, 3), (1.0, 5)])
def test_the_first_layers_stay_as_they_are_to_the_bit(
    share: float, still: int, context: TrainingContext
) -> None:
    before, after = weights(
        FINETUNE, context, {"train.frozen_share": share, "train.steps_per_epoch": 4}
    )
    changed = [not np.array_equal(old, new) for old, new in zip(before, after, strict=True)]
    assert changed == [False] * still + [True] * (len(before) - still)


def test_layers_that_stay_count_nothing_in_the_norm_of_the_gradient(
    context: TrainingContext,
) -> None:
    settings = {
        "train.gradient_clip_norm": 1e-3,
        "train.weight_decay": 0.0,
        "train.learning_rate": 100.0,
    }
    for share, still in ((0.0, 0), (0.7, 3)):
        before, after = weights(FINETUNE, context, {**settings, "train.frozen_share": share})
        moved = [new - old for old, new in zip(before, after, strict=True)][still:]
        # SGD moves by the rate, which its warm-up has at a tenth, times a gradient of norm 1e-3
        length = np.sqrt(sum(np.square(change).sum() for change in moved))
        assert length == pytest.approx(10.0 * 1e-3, rel=1e-2)


def test_other_shares_and_decays_compile_nothing_and_at_rest_change_no_bit(
    context: TrainingContext,
) -> None:
    _, plain = weights(FINETUNE, context, {})
    before = compiles()
    _, at_rest = weights(FINETUNE, context, {"train.layer_decay": 1.0, "train.frozen_share": 0.0})
    _, other = weights(FINETUNE, context, {"train.layer_decay": 0.5, "train.frozen_share": 0.5})
    assert compiles() == before
    for one, same in zip(plain, at_rest, strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(plain[3], other[3])


def test_frozen_layers_with_the_statistics_of_batches_are_refused() -> None:
    config = replace(FINETUNE, train=replace(FINETUNE.train, frozen_share=0.5), verb={})
    with pytest.raises(ConfigError, match=r"Use train\.batch_statistics=false"):
        validate(with_settings(config, {"train.batch_statistics": True}))
    assert validate(config)
