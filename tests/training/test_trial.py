"""A trial in segments: the same numbers however it is cut, whatever ran before it, and without
compiling again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from flowersweep.config.paths import with_settings
from flowersweep.config.schema import Config, Data
from flowersweep.errors import TrialFailed
from flowersweep.runtime import compiles
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.stages.epoch_orders import EPOCH_ORDERS
from flowersweep.training.stages.head import HeadStage
from tests.tiny import finetuning, tiny

FROZEN = tiny()
FINETUNE = tiny(
    train=finetuning(epochs=2),
)
BOTH = pytest.mark.parametrize("config", [FROZEN, FINETUNE], ids=["frozen", "finetune"])


def run(config: Config, context: TrainingContext) -> tuple[Checkpoint, list[dict[str, float]]]:
    checkpoint, epochs = trial.advance(config, Checkpoint(), config.train.all_epochs, context)
    return checkpoint, [epoch.metrics for epoch in epochs]


def same(one: Checkpoint, other: Checkpoint) -> None:
    for a, b in zip(jax.tree.leaves(one.state), jax.tree.leaves(other.state), strict=True):
        np.testing.assert_array_equal(a, b)


@BOTH
def test_a_trial_cut_into_segments_and_moved_through_files_ends_bit_for_bit_the_same(
    config: Config, context: TrainingContext, tmp_path: Path
) -> None:
    whole, metrics = run(config, context)
    checkpoint, pieces = Checkpoint(), []
    for until in range(1, config.train.all_epochs + 1):
        checkpoint, epochs = trial.advance(config, checkpoint, until, context)
        checkpoint.save(tmp_path / "checkpoint.npz")
        checkpoint = Checkpoint.load(tmp_path / "checkpoint.npz", context.runtime.replicated)
        pieces += [epoch.metrics for epoch in epochs]
    same(whole, checkpoint)
    assert pieces == metrics


def test_a_fine_tuning_goes_on_from_the_middle_of_an_epoch_bit_for_bit(
    context: TrainingContext, tmp_path: Path
) -> None:
    config = with_settings(FINETUNE, {"train.ema_half_life": 0.2, "train.batch_statistics": True})
    files: list[Path] = []

    def keep(checkpoint: Checkpoint) -> None:
        files.append(tmp_path / f"{checkpoint.epoch}-{len(checkpoint.losses)}.npz")
        checkpoint.save(files[-1])

    whole, epochs = trial.advance(config, Checkpoint(), 3, context, keep)
    assert [path.stem for path in files] == [
        f"{epoch}-{step}" for epoch in (1, 2) for step in range(1, 6)
    ]
    for path in files[::3]:
        rest, again = trial.advance(
            config, Checkpoint.load(path, context.runtime.replicated), 3, context
        )
        same(whole, rest)
        assert [epoch.metrics for epoch in again] == [epoch.metrics for epoch in epochs], path


def test_features_in_the_order_of_an_epoch_or_as_they_lie_give_the_same_with_the_same_program(
    context: TrainingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, metrics = run(FROZEN, context)
    stage = context.main_stage(FROZEN)
    assert isinstance(stage, HeadStage)
    owner = id(context.get_shared(FROZEN))
    assert EPOCH_ORDERS.epochs(owner, FROZEN.seed) == [*range(FROZEN.train.all_epochs)]
    before = compiles()
    # room for the first epoch alone
    monkeypatch.setattr(EPOCH_ORDERS, "limit", context.get_shared(FROZEN).train[0].nbytes)
    EPOCH_ORDERS.clear()
    other, again = run(FROZEN, context)
    assert EPOCH_ORDERS.epochs(owner, FROZEN.seed) == [0]
    same(whole, other)
    assert (again, compiles()) == (metrics, before)


@BOTH
def test_a_segment_that_is_advanced_again_gives_the_same(
    config: Config, context: TrainingContext
) -> None:
    first, _ = trial.advance(config, Checkpoint(), 2, context)
    once, _ = trial.advance(config, first, 3, context)
    again, _ = trial.advance(config, first, 3, context)
    same(once, again)


@BOTH
def test_trials_with_other_numbers_compile_nothing(
    config: Config, context: TrainingContext
) -> None:
    trial.finish(config, run(config, context)[0], context)
    before = compiles()
    for settings in (
        {"loss.gamma": 2.0, "loss.label_smoothing": 0.0},
        {"loss.beta": 0.99, "loss.tau": 1.0},
        {"train.learning_rate": 0.01, "schedule.warmup": 0.3, "model.dropout": 0.5},
        {"train.weight_decay": 0.1, "seed": 7},
        {"train.epochs": 3},
    ):
        other = with_settings(config, settings)
        trial.finish(other, run(other, context)[0], context)
    assert compiles() == before


def test_every_hyperparameter_changes_the_training(context: TrainingContext) -> None:
    _, base = run(FROZEN, context)
    for path, value in {
        "loss.gamma": 2.0,
        "loss.label_smoothing": 0.3,
        "train.learning_rate": 0.01,
        "train.weight_decay": 1.0,
        "schedule.warmup": 0.5,
        "schedule.warmup_start_factor": 0.9,
        "schedule.final_factor": 0.5,
        "model.dropout": 0.6,
        "seed": 1,
    }.items():
        _, changed = run(with_settings(FROZEN, {path: value}), context)
        assert changed[-1]["train/loss"] != base[-1]["train/loss"], path


def test_training_learns(context: TrainingContext) -> None:
    _, metrics = run(
        with_settings(
            FROZEN, {"train.epochs": 60, "train.learning_rate": 0.1, "model.dropout": 0.0}
        ),
        context,
    )
    assert metrics[-1]["train/loss"] < metrics[0]["train/loss"] * 0.8
    assert metrics[-1]["tune/nll"] < metrics[0]["tune/nll"]


def test_fine_tuning_begins_with_the_head_of_the_frozen_stage_and_moves_the_backbone(
    context: TrainingContext,
) -> None:
    frozen, _ = trial.advance(FINETUNE, Checkpoint(), 1, context)
    begun = context.main_stage(FINETUNE).begin(frozen.state)
    assert frozen.state is not None
    np.testing.assert_array_equal(begun.trainable[-2], frozen.state.trainable[0].T)
    tuned, _ = trial.advance(FINETUNE, frozen, 3, context)
    assert tuned.state is not None
    assert not np.array_equal(tuned.state.trainable[0], begun.trainable[0])
    np.testing.assert_array_equal(tuned.state.non_trainable[0], begun.non_trainable[0])
    moved, _ = trial.advance(
        with_settings(FINETUNE, {"train.batch_statistics": True}), frozen, 3, context
    )
    assert moved.state is not None
    # the statistics of the batches
    assert not np.array_equal(moved.state.non_trainable[0], begun.non_trainable[0])


def test_a_loss_that_is_not_finite_fails_the_trial_with_its_reason(
    context: TrainingContext,
) -> None:
    with pytest.raises(TrialFailed, match=r"train/loss is (nan|inf).* after epoch \d"):
        run(
            with_settings(FROZEN, {"train.learning_rate": 1e38, "train.weight_decay": 1e38}),
            context,
        )


@BOTH
def test_the_exported_model_gives_the_logits_of_the_trial_over_the_temperature(
    config: Config, context: TrainingContext
) -> None:
    from flowersweep.data.pipeline import in_order

    checkpoint, _ = run(config, context)
    result = trial.finish(config, checkpoint, context)
    dataset = context.dataset(config.data)
    images = np.concatenate(list(in_order(dataset.splits["val"], dataset.image_size, 16)))
    model = trial.build_keras_model(config, checkpoint, context, temperature=2.5)
    np.testing.assert_allclose(
        2.5 * model.predict(images, verbose=0)[dataset.tune],
        result.logits["tune"],
        rtol=1e-3,
        atol=2e-4,
    )


def test_report_and_tune_are_scored_apart(context: TrainingContext) -> None:
    result = trial.finish(FROZEN, run(FROZEN, context)[0], context)
    assert {"tune/macro_f1", "holdout/macro_f1", "tune/calibrated_nll", "holdout/accuracy"} <= set(
        result.metrics
    )
    assert {part: len(logits) for part, logits in result.logits.items()} == {
        "tune": 15,
        "holdout": 15,
        "test": 10,
    }


def test_fewer_images_than_a_batch_are_one_smaller_batch(context: TrainingContext) -> None:
    large = with_settings(FROZEN, {"train.batch_per_replica": 64, "train.min_head_steps": 30})
    assert context.batch(large) == 40
    trained, epochs = run(large, context)
    assert trained.state is not None
    assert int(trained.state.step) == 32  # 40 images, and as many steps as a head needs
    assert epochs[-1]["train/loss"] < epochs[0]["train/loss"]


def test_a_half_written_checkpoint_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.partial").write_bytes(b"half")
    assert Checkpoint.resume(tmp_path / "checkpoint.npz") == Checkpoint()


def test_a_batch_in_parts_trains_as_the_whole_batch(context: TrainingContext) -> None:
    still = with_settings(FROZEN, {"model.dropout": 0.0})
    whole, parts = (
        run(with_settings(still, {"train.gradient_accumulation_steps": n}), context)[0].state
        for n in (1, 4)
    )
    assert whole is not None
    assert parts is not None
    np.testing.assert_allclose(whole.trainable[0], parts.trainable[0], rtol=1e-4, atol=1e-6)


def test_the_average_follows_the_weights_by_its_half_life(context: TrainingContext) -> None:
    averaged = with_settings(FROZEN, {"train.ema_half_life": 0.1})
    state = run(averaged, context)[0].state
    plain = run(FROZEN, context)[0].state
    assert state is not None
    assert plain is not None
    # averaging does not disturb the training
    np.testing.assert_array_equal(state.trainable[0], plain.trainable[0])
    assert not np.array_equal(state.average[0], state.trainable[0])
    quick = run(with_settings(averaged, {"train.ema_half_life": 1e-4}), context)[0].state
    assert quick is not None
    np.testing.assert_allclose(quick.average[0], quick.trainable[0], rtol=1e-5)


def test_a_bound_on_the_gradient_that_is_never_met_changes_nothing_and_a_tight_one_slows(
    context: TrainingContext,
) -> None:
    sgd = replace(FROZEN, optimizer={"_target_": "keras.optimizers.SGD", "name": "sgd"})
    free, loose, tight = (
        run(with_settings(sgd, {"train.gradient_clip_norm": norm}), context)[0].state
        for norm in (None, 1e6, 1e-3)
    )
    assert free is not None
    assert loose is not None
    assert tight is not None
    np.testing.assert_allclose(free.trainable[0], loose.trainable[0], rtol=1e-6)
    begun = context.main_stage(sgd).begin(None).trainable[0]
    assert np.abs(tight.trainable[0] - begun).max() < 0.1 * np.abs(free.trainable[0] - begun).max()


def test_the_backbone_has_a_rate_of_its_own(context: TrainingContext) -> None:
    frozen, _ = trial.advance(FINETUNE, Checkpoint(), 1, context)
    still, _ = trial.advance(
        with_settings(FINETUNE, {"train.backbone_lr_multiplier": 0.0}), frozen, 3, context
    )
    begun = context.main_stage(FINETUNE).begin(frozen.state)
    assert still.state is not None
    for before, after in zip(begun.trainable[:-2], still.state.trainable[:-2], strict=True):
        np.testing.assert_array_equal(before, after)
    assert not np.array_equal(begun.trainable[-2], still.state.trainable[-2])


def rare(folder: Path) -> Config:
    """A configuration on 12, 6 and 2 images of three classes, as files."""
    chance = np.random.default_rng(0)
    for split, counts in (("train", (12, 6, 2)), ("val", (4, 4, 4))):
        for label, count in enumerate(counts):
            (folder / split / str(label)).mkdir(parents=True)
            for number in range(count):
                pixels = chance.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / str(label) / f"{number}.png")
    return tiny(data=Data(name="rare", format="folder", dir=str(folder), folds=1))


@pytest.mark.parametrize("kind", ["frozen", "folds", "finetune"])
def test_rare_classes_come_more_often_and_any_number_is_one_program_and_resumes_exactly(
    kind: str, context: TrainingContext, tmp_path: Path
) -> None:
    config = rare(tmp_path / "rare")
    if kind == "folds":
        config = with_settings(config, {"data.folds": 3})
    elif kind == "finetune":
        config = replace(config, train=FINETUNE.train)
    plain, _ = run(config, context)
    before, files = compiles(), []
    often = with_settings(config, {"train.min_class_images": 5})

    def keep(checkpoint: Checkpoint) -> None:
        files.append(tmp_path / f"{checkpoint.epoch}-{checkpoint.steps}.npz")
        checkpoint.save(files[-1])

    whole, epochs = trial.advance(often, Checkpoint(), often.train.all_epochs, context, keep)
    assert compiles() == before
    assert not np.array_equal(whole.state.weights[-1], plain.state.weights[-1])  # type: ignore[union-attr]
    pieces = Checkpoint()
    for until in range(1, often.train.all_epochs + 1):
        pieces, _ = trial.advance(often, pieces, until, context)
    same(whole, pieces)
    assert bool(files) == (kind == "finetune")
    for file in files:
        halfway = Checkpoint.load(file, context.runtime.replicated)
        rest, again = trial.advance(often, halfway, often.train.all_epochs, context)
        same(whole, rest)
        assert [epoch.metrics for epoch in again] == [
            epoch.metrics for epoch in epochs[-len(again) :]
        ]


def test_a_class_that_comes_more_often_is_held_more_likely(
    context: TrainingContext, tmp_path: Path
) -> None:
    config = with_settings(
        rare(tmp_path / "rare"), {"train.epochs": 30, "train.learning_rate": 0.01}
    )
    stage, likely = context.main_stage(config), []
    for number in (0, 4, 100):
        state = run(with_settings(config, {"train.min_class_images": number}), context)[0].state
        assert state is not None
        likely.append(jax.nn.softmax(stage.logits(state, "tune")).mean(axis=0)[2])
    assert likely[0] < likely[1] - 0.02 < likely[2] - 0.04


def counting(
    logits: jax.Array, targets: jax.Array, *, class_counts: jax.Array, scale: jax.Array
) -> jax.Array:
    """A loss of one's own that asks for the training images of each class."""
    return scale * class_counts.sum() + 0.0 * logits.sum()


def test_a_loss_with_a_parameter_for_them_is_given_the_images_of_each_class(
    context: TrainingContext,
) -> None:
    own = replace(
        FROZEN, loss={"_target_": f"{__name__}.counting", "name": "counting", "scale": 0.5}
    )
    trusting = TrainingContext(context.runtime, context.cache, context.progress, trusted=("tests",))
    assert run(own, trusting)[1][-1]["train/loss"] == 0.5 * 40


def test_without_a_stage_of_the_head_fine_tuning_begins_with_a_fresh_one(
    context: TrainingContext,
) -> None:
    config = with_settings(FINETUNE, {"train.head_epochs": 0})
    whole, epochs = trial.advance(config, Checkpoint(), 2, context)
    assert epochs[-1].metrics["train/loss"] < epochs[0].metrics["train/loss"]
    first, _ = trial.advance(config, Checkpoint(), 1, context)
    resumed, _ = trial.advance(config, first, 2, context)
    for one, other in zip(whole.state.weights, resumed.state.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert trial.build_keras_model(config, whole, context).output_shape == (None, 5)


# a rate at which the likelihood of tune soon gets worse again
HASTY = {
    "train.learning_rate": 5.0,
    "train.epochs": 6,
    "train.ema_half_life": 0.0,
    "loss.label_smoothing": 0.0,
    "train.restore_best": True,
}
OVERFITTED = with_settings(FROZEN, HASTY)
FOLDED = with_settings(OVERFITTED, {"data.folds": 3})
TUNED_HASTILY = with_settings(FINETUNE, {"train.restore_best": True, "train.learning_rate": 0.05})
RESTORED = pytest.mark.parametrize(
    "config", [OVERFITTED, FOLDED, TUNED_HASTILY], ids=["frozen", "folds", "finetune"]
)


@RESTORED
def test_the_weights_of_the_best_epoch_are_given_back(
    config: Config, context: TrainingContext
) -> None:
    checkpoint, epochs = run(config, context)
    curve = [epoch["tune/calibrated_nll"] for epoch in epochs]
    main = curve[config.train.all_epochs - config.train.epochs :]
    best = len(curve) - len(main) + int(np.argmin(main)) + 1
    assert checkpoint.best is not None
    assert checkpoint.best.epoch == best
    programs = compiles()
    result = trial.finish(config, checkpoint, context)
    assert compiles() == programs
    assert result.metrics["tune/calibrated_nll"] == pytest.approx(min(main), abs=1e-9)
    same(
        trial.advance(config, Checkpoint(), best, context)[0].without_optimizer(),
        trial.restored(config, checkpoint),
    )


def test_a_hasty_training_is_not_best_in_its_last_epoch(context: TrainingContext) -> None:
    checkpoint, _ = run(OVERFITTED, context)
    assert checkpoint.best is not None
    assert checkpoint.best.epoch < OVERFITTED.train.epochs


@RESTORED
def test_the_best_epoch_survives_files_bit_for_bit(
    config: Config, context: TrainingContext, tmp_path: Path
) -> None:
    whole, _ = run(config, context)
    files: list[Path] = []

    def keep(checkpoint: Checkpoint) -> None:
        files.append(tmp_path / f"{checkpoint.epoch}-{checkpoint.steps}.npz")
        checkpoint.save(files[-1])

    checkpoint = Checkpoint()
    for until in range(1, config.train.all_epochs + 1):
        checkpoint, _ = trial.advance(config, checkpoint, until, context, keep)
        checkpoint.save(tmp_path / "checkpoint.npz")
        checkpoint = Checkpoint.load(tmp_path / "checkpoint.npz", context.runtime.replicated)
    halfway = [Checkpoint.load(path, context.runtime.replicated) for path in files[-2:]]
    for again in (
        checkpoint,
        *(trial.advance(config, one, config.train.all_epochs, context)[0] for one in halfway),
    ):
        same(trial.restored(config, whole), trial.restored(config, again))
        assert whole.best is not None
        assert again.best is not None
        assert (whole.best.epoch, whole.best.value) == (again.best.epoch, again.best.value)
    assert checkpoint.nbytes > replace(checkpoint, best=None).nbytes


def test_a_training_ends_when_no_epoch_is_better_and_stays_ended(context: TrainingContext) -> None:
    config = with_settings(OVERFITTED, {"train.epochs": 12, "train.patience": 2})
    checkpoint, epochs = trial.advance(config, Checkpoint(), 12, context)
    assert checkpoint.best is not None
    assert checkpoint.epoch == checkpoint.best.epoch + 2 == len(epochs) < 12
    again, more = trial.advance(config, checkpoint, 12, context)
    assert (again.epoch, more) == (checkpoint.epoch, [])
    pieces = Checkpoint()
    for until in range(1, 13):
        pieces, _ = trial.advance(config, pieces, until, context)
    same(pieces, checkpoint)


def test_a_training_on_all_images_follows_no_epoch(context: TrainingContext) -> None:
    config = with_settings(OVERFITTED, {"data.train_on": "all", "train.patience": 1})
    checkpoint, _ = run(config, context)
    assert (checkpoint.epoch, checkpoint.best) == (6, None)
