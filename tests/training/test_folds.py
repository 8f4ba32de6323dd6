"""Cross-validation over train and tune: which images a head sees, and what is said of which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flowersweep.config.paths import with_settings
from flowersweep.config.schema import Config
from flowersweep.config.validation import validate
from flowersweep.data.extra.selection import ExtraImages
from flowersweep.errors import ConfigError
from flowersweep.runtime import compiles
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.folds import LARGE_TUNE, deal_folds
from tests.tiny import tiny

FOLDED = with_settings(tiny(), {"data.folds": 3})
TRAIN, TUNE, HOLDOUT = 40, 15, 15  # images of the tiny data set


def run(config: Config, context: TrainingContext) -> tuple[Checkpoint, list[dict[str, float]]]:
    checkpoint, epochs = trial.advance(config, Checkpoint(), config.train.all_epochs, context)
    return checkpoint, [epoch.metrics for epoch in epochs]


@pytest.mark.parametrize(("images", "folds"), [(55, 3), (60, 5), (7, 7), (11, 2)])
def test_every_image_is_held_out_once_and_trained_on_by_all_other_heads(
    images: int, folds: int
) -> None:
    labels = np.sort(np.random.default_rng(0).integers(0, 4, images))
    dealt = deal_folds(labels, folds, seed=0)
    assert (dealt.held_out.reshape(-1)[dealt.place] == np.arange(images)).all()
    fold_of = dealt.place // dealt.held_out.shape[1]
    for fold, (trained, held_out) in enumerate(zip(dealt.trained, dealt.held_out, strict=True)):
        assert {*trained} | {*held_out} == {*range(images)}
        assert not {*trained} & {*held_out}
        assert {*held_out} == {*np.flatnonzero(fold_of == fold)}
    assert dealt.trained.shape[1] == images - images // folds
    counts = [np.bincount(labels[fold_of == fold], minlength=4) for fold in range(folds)]
    assert np.ptp(counts, axis=0).max() <= 1, "a class is spread evenly over the folds"


def test_extra_images_are_trained_on_but_never_judged_nor_seen_where_their_twin_is() -> None:
    labels = np.random.default_rng(0).integers(0, 3, 60)
    rows = np.arange(40, 52)  # between train and tune
    twins = np.array([[40, 3], [41, 3], [42, 55], [43, 10], [43, 20]])
    extra = ExtraImages(rows, twins)
    dealt = deal_folds(labels, 4, 0, extra)
    judged = np.setdiff1d(np.arange(60), rows)
    assert (dealt.held_out.reshape(-1)[dealt.place] == judged).all()
    assert (dealt.fold_of[rows] == -1).all()
    assert dealt.trained.shape[1] == 48 - 12 + 12
    for fold, (trained, held_out) in enumerate(zip(dealt.trained, dealt.held_out, strict=True)):
        assert {*held_out} == {*np.flatnonzero(dealt.fold_of == fold)}
        seen = {int(one) for one, other in twins if other in held_out}
        assert {*trained} == {*range(60)} - {*held_out} - seen
    alone = deal_folds(labels[judged], 4, 0)
    np.testing.assert_array_equal(alone.fold_of, dealt.fold_of[judged])


def test_other_seeds_deal_otherwise_and_the_same_seed_alike() -> None:
    labels = np.repeat(np.arange(5), 11)
    one, same, other = (deal_folds(labels, 5, seed).place for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_a_trial_is_scored_on_all_images_of_train_and_tune_and_on_the_same_holdout(
    context: TrainingContext,
) -> None:
    checkpoint, _ = run(FOLDED, context)
    result = trial.finish(FOLDED, checkpoint, context)
    plain = trial.finish(tiny(), run(tiny(), context)[0], context)
    dataset = context.dataset(FOLDED.data)
    train, val = (dataset.splits[name].labels for name in ("train", "val"))
    assert train is not None
    assert val is not None
    np.testing.assert_array_equal(result.labels["tune"], np.concatenate([train, val[dataset.tune]]))
    assert len(result.logits["tune"]) == TRAIN + TUNE
    np.testing.assert_array_equal(result.labels["holdout"], plain.labels["holdout"])
    assert result.logits["holdout"].shape == plain.logits["holdout"].shape == (HOLDOUT, 5)


def test_a_head_is_the_one_that_a_training_on_the_other_folds_alone_gives(
    context: TrainingContext,
) -> None:
    """The holdout and the own fold have no part in it: other labels there change nothing."""
    stage = context.main_stage(FOLDED)
    whole, _ = run(FOLDED, context)
    features, labels = (np.asarray(array) for array in stage.shared.train)  # type: ignore[attr-defined]
    own = stage._folds.held_out[0]  # type: ignore[attr-defined]
    spoilt = np.where(np.isin(np.arange(len(labels)), own), (labels + 1) % 5, labels)
    rates = trial.hyperparameters(FOLDED, 0, context.steps(FOLDED, 0))
    from flowersweep.training.stages import EpochPlan

    plan = EpochPlan(0, 0, context.steps(FOLDED, 0), context.batch(FOLDED))
    state = stage.begin(None)
    order = stage._folds.trained  # type: ignore[attr-defined]
    assert not np.isin(order[0], own).any()
    before = stage.shared  # type: ignore[attr-defined]
    try:
        trained, _ = stage.epoch(state, rates, plan, lambda *_: None)
        stage.shared = replace(before, train=context.runtime.replicate((features, spoilt)))  # type: ignore[attr-defined]
        again, _ = stage.epoch(state, rates, plan, lambda *_: None)
    finally:
        stage.shared = before  # type: ignore[attr-defined]
    kernel, other = (np.asarray(each.trainable[0]) for each in (trained, again))
    np.testing.assert_array_equal(kernel[0], other[0])
    assert (kernel[1] != other[1]).any()
    assert whole.state is not None


def test_the_saved_model_predicts_the_mean_of_the_heads(context: TrainingContext) -> None:
    checkpoint, _ = run(FOLDED, context)
    result = trial.finish(FOLDED, checkpoint, context)
    model = trial.build_keras_model(FOLDED, checkpoint.without_optimizer(), context)
    from flowersweep.data.pipeline import read_images

    dataset = context.dataset(FOLDED.data)
    images = read_images(dataset.splits["val"], dataset.holdout, dataset.image_size)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), result.logits["holdout"], rtol=1e-3, atol=1e-3
    )
    assert checkpoint.state is not None
    stage, _ = trial.stage_at(FOLDED, 0, context)
    each = [
        context.main_stage(tiny()).logits(
            checkpoint.state._replace(
                trainable=[weight[fold] for weight in checkpoint.state.trainable]
            ),
            "holdout",
        )
        for fold in range(3)
    ]
    np.testing.assert_allclose(
        np.mean(each, axis=0), stage.logits(checkpoint.state, "holdout"), rtol=1e-4, atol=1e-4
    )


def test_a_trial_cut_into_segments_ends_bit_for_bit_the_same(
    context: TrainingContext, tmp_path: Path
) -> None:
    config = with_settings(FOLDED, {"train.ema_half_life": 0.2})
    whole, metrics = run(config, context)
    checkpoint, pieces = Checkpoint(), []
    for until in range(1, config.train.all_epochs + 1):
        checkpoint, epochs = trial.advance(config, checkpoint, until, context)
        checkpoint.save(tmp_path / "checkpoint.npz")
        checkpoint = Checkpoint.load(tmp_path / "checkpoint.npz", context.runtime.replicated)
        pieces += [epoch.metrics for epoch in epochs]
    assert pieces == metrics
    before, after = (trial.finish(config, each, context) for each in (whole, checkpoint))
    assert before.metrics == after.metrics
    np.testing.assert_array_equal(before.logits["tune"], after.logits["tune"])


def test_a_second_configuration_compiles_nothing(context: TrainingContext) -> None:
    first, _ = run(FOLDED, context)
    trial.finish(FOLDED, first, context)
    before = compiles()
    other = with_settings(FOLDED, {"train.learning_rate": 0.02, "loss.label_smoothing": 0.0})
    trial.finish(other, run(other, context)[0], context)
    assert compiles() == before
    assert context.compile_group_keys(other) == context.compile_group_keys(FOLDED)
    assert context.compile_group_keys(tiny()) != context.compile_group_keys(FOLDED)


def test_folds_are_chosen_where_tune_is_small_and_heads_are_frozen(
    context: TrainingContext,
) -> None:
    chosen = with_settings(tiny(), {"data.folds": None})
    assert TUNE < LARGE_TUNE
    assert context.folds(chosen) == 5
    assert context.folds(with_settings(chosen, {"train.finetune": True})) == 1
    assert context.folds(with_settings(chosen, {"data.train_on": "all"})) == 1
    assert context.folds(tiny()) == 1


def test_more_folds_than_images_and_folds_of_fine_tuning_are_refused(
    context: TrainingContext,
) -> None:
    few = {"classes": 5, "train": 2, "val": 2, "test": 2, "image_size": 32, "_target_": "synthetic"}
    config = with_settings(tiny(), {"data.folds": 40})
    with pytest.raises(ConfigError, match="train and tune have 15 images"):
        context.folds(replace(config, data=replace(config.data, fetch=few)))
    with pytest.raises(ConfigError, match=r"data\.folds=3: only frozen heads"):
        validate(with_settings(FOLDED, {"train.finetune": True}))
