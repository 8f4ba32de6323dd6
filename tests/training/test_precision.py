"""In which precision a training computes, and what it keeps in memory."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from flowersweep.config.compose import compose
from flowersweep.config.schema import Arithmetic, Config, Data, Train
from flowersweep.data.decoded import memory_limit
from flowersweep.errors import ConfigError
from flowersweep.runtime.devices import fast_precision
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.features import feature_files
from flowersweep.training.image_trainer import ImageTrainer
from flowersweep.training.stages import resident
from flowersweep.training.trial import advance, finish, hyperparameters
from tests.conftest import Command
from tests.tiny import tiny
from tests.training.test_tpu import abstract_context, exported, needs_libtpu

FINETUNE = Train(name="finetune", finetune=True, min_head_steps=0, epochs=2, batch_per_replica=8)
BFLOAT16, FLOAT32 = Arithmetic(precision="bfloat16"), Arithmetic(precision="float32")
REMAT = Arithmetic(remat=True)


def fine_tuning(runtime: Arithmetic = Arithmetic()) -> Config:
    return tiny(train=FINETUNE, runtime=runtime)


@pytest.mark.parametrize(
    ("platform", "capability", "wanted"),
    [
        ("cpu", None, "float32"),
        ("tpu", None, "bfloat16"),
        ("gpu", "6.0", "float32"),
        ("gpu", "7.5", "float32"),
        ("gpu", "8.0", "bfloat16"),
        ("gpu", "10.0", "bfloat16"),
        ("gpu", "gfx906", "float32"),
        ("gpu", "gfx942", "bfloat16"),
    ],
)
def test_auto_is_bfloat16_where_the_device_has_it(
    platform: str, capability: str | None, wanted: str
) -> None:
    device = SimpleNamespace(platform=platform, compute_capability=capability)
    assert fast_precision(device) == wanted


def test_another_precision_is_another_training_and_auto_is_the_one_it_stands_for(
    context: TrainingContext,
) -> None:
    trainer = ImageTrainer(context)
    auto, other, plain = (
        trainer.identity(fine_tuning(runtime), data_varies=False)
        for runtime in (Arithmetic(), BFLOAT16, FLOAT32)
    )
    assert auto == plain != other
    assert trainer.facts(fine_tuning())["runtime.precision"] == "float32"
    assert trainer.facts(fine_tuning(BFLOAT16))["runtime.precision"] == "bfloat16"


def test_features_of_each_precision_are_kept_apart(context: TrainingContext) -> None:
    folders = set()
    for runtime in (BFLOAT16, FLOAT32, Arithmetic()):
        config = tiny(runtime=runtime)
        dataset, network = context.dataset(config.data), context.classifier(config)
        paths = feature_files(
            dataset.splits["val"], dataset, network, context.runtime, context.cache
        )
        folders.add(paths[0].parent.name.removesuffix("-openvino").rpartition("-")[2])
    assert folders == {"bfloat16", "float32"}


def trained(config: Config, context: TrainingContext) -> tuple[Checkpoint, list[float]]:
    checkpoint, epochs = advance(config, Checkpoint(), 2, context)
    return checkpoint, [epoch.metrics["train/loss"] for epoch in epochs]


def test_weights_optimizer_statistics_and_logits_stay_in_float32(context: TrainingContext) -> None:
    config = fine_tuning(BFLOAT16)
    checkpoint, losses = trained(config, context)
    floats = [x for x in jax.tree.leaves(checkpoint.state) if x.dtype != np.int32]
    assert {str(x.dtype) for x in floats} == {"float32"}
    assert finish(config, checkpoint, context).logits["tune"].dtype == np.float32
    plain = trained(fine_tuning(), context)[1]
    assert losses != plain
    np.testing.assert_allclose(losses, plain, rtol=0.05)


def test_a_network_that_is_computed_anew_trains_the_same(context: TrainingContext) -> None:
    gpu = replace(context.runtime, platform="gpu")
    elsewhere = TrainingContext(gpu, context.cache, context.progress)
    plain, anew = (trained(fine_tuning(runtime), elsewhere)[1] for runtime in (FLOAT32, REMAT))
    np.testing.assert_allclose(anew, plain, rtol=1e-4)


def test_images_on_the_device_make_the_same_batches(
    context: TrainingContext, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = fine_tuning()
    plain = trained(config, context)[1]
    monkeypatch.setattr(resident, "device_room", lambda: 1 << 30)
    caplog.set_level("INFO")
    fresh = TrainingContext(context.runtime, context.cache, context.progress)
    assert trained(config, fresh)[1] == plain
    assert "40 decoded images" in caplog.text
    assert "kept on the device" in caplog.text


def test_decoded_images_take_a_share_of_the_free_memory() -> None:
    assert compose(["data.cache_bytes=auto"]).data == compose([]).data
    assert compose(["data.cache_bytes=5"]).data.cache_bytes == 5
    assert memory_limit("auto") > memory_limit(0) == 0
    with pytest.raises(ConfigError, match=r"data.cache_bytes=much: must be bytes, or auto"):
        compose(["data.cache_bytes=much"])


def test_a_joint_model_is_not_computed_anew() -> None:
    with pytest.raises(ConfigError, match=r"runtime.remat: the networks of a joint model"):
        compose(["model=joint", "train=finetune", "runtime.remat=true"])


def step_program(runtime: Arithmetic) -> Any:
    config = replace(fine_tuning(runtime), data=Data(name="none", image_size=32))
    numbers = hyperparameters(config, config.train.all_epochs - 1, 1)
    return abstract_context(config).step(config, numbers)[0]


def test_a_check_compiles_what_it_says() -> None:
    plain, fast, anew = (exported(step_program(each)) for each in (FLOAT32, BFLOAT16, REMAT))
    assert "bf16" not in plain
    assert "bf16" in fast
    assert "optimization_barrier" not in fast
    assert "optimization_barrier" in anew


@needs_libtpu
@pytest.mark.slow
def test_memory_on_a_tpu_falls_as_precision_and_remat_say(command: Command) -> None:
    network = "model.backbone={_target_: keras.applications.MobileNet, alpha: 0.25}"
    peaks = []
    for word in ("runtime.precision=float32", "runtime.precision=auto", "runtime.remat=true"):
        words = ("train=finetune", "train.head_epochs=0", "data.image_size=64", word, network)
        done = command("check", "model.weights=none", *words, "topology=v5e:1x1")
        assert done.returncode == 0, done.stderr
        step = done.stdout.partition("fine-tuning step")[2]
        peaks.append(float(step.partition("fits, ")[2].partition(" of")[0]))
    assert peaks[0] > peaks[1] > peaks[2]


@pytest.mark.slow
def test_a_study_goes_on_in_its_own_precision_alone(command: Command) -> None:
    words = ("train", "study=half", "model=tiny", "train.epochs=2", "tracking.enabled=false")
    first = command(*words, "runtime.precision=bfloat16")
    assert first.returncode == 0, first.stderr
    other = command(*words)
    assert other.returncode == 1
    assert "runtime.precision: 'bfloat16' -> 'float32'" in other.stderr
