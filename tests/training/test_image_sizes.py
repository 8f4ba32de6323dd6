"""Fine-tuning that begins on small images: which size when, exact in any cut, compiled once, and in the end a network for full size."""

from __future__ import annotations

from pathlib import Path

import jax
import keras
import numpy as np
import pytest

from flowersweep.config.paths import with_settings
from flowersweep.config.schema import Config, Model, Train, at_epoch, at_sizes
from flowersweep.config.validation import validate
from flowersweep.data.pipeline import read_images
from flowersweep.errors import ConfigError
from flowersweep.runtime import compiles, start
from flowersweep.search.deduplication import identity
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.stages import FinetuneStage
from tests.training.conftest import tiny

FULL = tiny(train=Train(name="finetune", finetune=True, head_epochs=1, epochs=2, batch_per_replica=8))
GROWING = with_settings(FULL, {"train.image_sizes": [16, 32]})


def same(one: Checkpoint, other: Checkpoint) -> None:
    for a, b in zip(jax.tree.leaves(one.state), jax.tree.leaves(other.state), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("sizes", "epochs", "expected"),
    [
        ([16, 32], 4, [16, 16, 32, 32]),
        ([16, 32], 3, [16, 16, 32]),
        ([16, 24, 32], 7, [16, 16, 16, 24, 24, 32, 32]),
        ([16, 16, 16, 32], 4, [16, 16, 16, 32]),  # named more than once for more of the epochs
    ],
)
def test_the_epochs_of_fine_tuning_are_cut_evenly_and_the_head_takes_the_first_size(
    sizes: list[int], epochs: int, expected: list[int]
) -> None:
    config = with_settings(FULL, {"train.image_sizes": sizes, "train.epochs": epochs, "train.head_epochs": 2, "data.image_size": 32})
    assert [at_epoch(config, epoch).data.image_size for epoch in range(epochs + 2)] == [sizes[0]] * 2 + expected
    assert list(at_sizes(config)) == [0, *(n + 2 for n in range(1, epochs) if expected[n] != expected[n - 1])]


def test_a_trial_grows_its_images_and_ends_as_a_network_for_those_of_full_size(tmp_path: Path) -> None:
    workshop = TrainingContext(start(), tmp_path, lambda what, done, total: None)
    seen: list[tuple[int, ...]] = []
    stages = [trial.stage_at(GROWING, epoch, workshop)[0] for epoch in range(3)]
    for stage in {*stages}:
        if isinstance(stage, FinetuneStage):
            step = stage._step
            stage._step = lambda *batch, step=step: seen.append(batch[2].shape) or step(*batch)  # type: ignore[func-returns-value]
    checkpoint, epochs = trial.advance(GROWING, Checkpoint(), 3, workshop)
    assert seen == [(8, 16, 16, 3)] * 5 + [(8, 32, 32, 3)] * 5
    assert [path.name.split("-")[1] for path in (tmp_path / "features").iterdir()] == ["16x16"]  # those of full size are not needed
    result = trial.finish(GROWING, checkpoint, workshop)
    assert result.metrics["tune/nll"] == pytest.approx(epochs[-1].metrics["tune/nll"])
    test = workshop.dataset(GROWING.data).splits["test"]
    images = read_images(test, range(len(test)))
    assert images.shape[1:] == (32, 32, 3)
    model = trial.build_keras_model(GROWING, checkpoint, workshop)
    assert model.input_shape == (None, 32, 32, 3)
    np.testing.assert_allclose(model.predict(images, verbose=0), result.logits["test"], rtol=1e-3, atol=1e-4)


def test_a_trial_goes_on_from_any_step_of_any_size_bit_for_bit(workshop: TrainingContext, tmp_path: Path) -> None:
    config = with_settings(GROWING, {"train.ema_half_life": 0.2, "train.batch_statistics": True})
    files: list[Path] = []

    def keep(checkpoint: Checkpoint) -> None:
        files.append(tmp_path / f"{checkpoint.epoch}-{len(checkpoint.losses)}.npz")
        checkpoint.save(files[-1])

    whole, epochs = trial.advance(config, Checkpoint(), 3, workshop, keep)
    for path in (tmp_path / "1-2.npz", tmp_path / "1-5.npz", tmp_path / "2-3.npz"):
        rest, again = trial.advance(config, Checkpoint.load(path, workshop.runtime.replicated), 3, workshop)
        same(whole, rest)
        assert [epoch.metrics for epoch in again] == [epoch.metrics for epoch in epochs], path


def test_each_size_is_compiled_once_for_all_trials(workshop: TrainingContext) -> None:
    def run(config: Config) -> int:
        before = compiles()
        trial.finish(config, trial.advance(config, Checkpoint(), trial.epochs(config), workshop)[0], workshop)
        return compiles() - before

    base = with_settings(GROWING, {"train.clip_norm": 1.0})
    assert run(base) > 0
    for settings in (
        {"train.learning_rate": 0.01, "loss.gamma": 2.0},
        {"train.epochs": 3},
        {"train.image_sizes": [16, 16, 32], "train.epochs": 4},
    ):
        other = with_settings(base, settings)
        assert workshop.compile_group_keys(other) == workshop.compile_group_keys(base)
        assert run(other) == 0, settings
    head, small, large = workshop.compile_group_keys(base)
    assert workshop.compile_group_keys(with_settings(base, {"train.image_sizes": None}))[-1] == large
    assert workshop.compile_group_keys(with_settings(base, {"train.image_sizes": None, "data.image_size": 16})) == (head, small)


def test_one_size_alone_is_the_training_without(workshop: TrainingContext) -> None:
    one = with_settings(FULL, {"train.image_sizes": [32]})
    same(trial.advance(one, Checkpoint(), 3, workshop)[0], trial.advance(FULL, Checkpoint(), 3, workshop)[0])
    assert workshop.compile_group_keys(one) == workshop.compile_group_keys(FULL)
    assert identity(one, 1) == identity(FULL, 1) != identity(GROWING, 1)
    again, other = (
        with_settings(GROWING, {"train.epochs": 4, "train.image_sizes": sizes}) for sizes in ([16, 16, 32, 32], [16, 32, 32, 32])
    )
    assert identity(again, 1) == identity(with_settings(GROWING, {"train.epochs": 4}), 1) != identity(other, 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train.image_sizes": [32, 16]}, "the smallest first"),
        ({"train.image_sizes": []}, "the smallest first, as in [96, 192]; or null"),
        ({"train.image_sizes": [4, 32]}, "must be sizes from 8 to 4096"),
        ({"train.image_sizes": [16, 24, 32]}, "each wants an epoch, and train.epochs=2"),
        ({"train.finetune": False}, "use train=finetune, or leave it out"),
    ],
)
def test_sizes_that_mean_nothing_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        validate(with_settings(GROWING, settings))
    assert said in str(refused.value)


@pytest.mark.parametrize("sizes", [[16, 24], [16, 48]])
def test_the_last_size_must_be_that_of_the_images(sizes: list[int], workshop: TrainingContext) -> None:
    with pytest.raises(ConfigError, match=r"must end with the size of the images, which is 32x32\. .* set data.image_size="):
        workshop.batch(with_settings(FULL, {"train.image_sizes": sizes}))


def positioned(*, input_shape: tuple[int, int, int], include_top: bool = False, weights: str | None = None) -> keras.Model:
    """A network with a weight for each place of the image."""
    images = keras.Input(input_shape)
    return keras.Model(images, keras.layers.EinsumDense("nhwc,hwcd->nhwd", (*input_shape[:2], 4))(images))


def test_a_network_whose_weights_depend_on_the_size_is_refused_by_name(workshop: TrainingContext) -> None:
    model = Model(name="places", backbone={"_target_": f"{__name__}.positioned"}, weights="none")
    trusting = TrainingContext(workshop.runtime, workshop.cache, workshop.progress, trusted=("tests",))
    trusting.require_networks(tiny(model=model, train=FULL.train))
    with pytest.raises(ConfigError, match="the weights of model=places depend on the size of the images"):
        trusting.require_networks(tiny(model=model, train=GROWING.train))
