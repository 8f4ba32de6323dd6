"""What a TPU would run is compiled here without one: exported always, compiled for a slice where
libtpu is installed.
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec

import jax.export
import pytest

from flowersweep.__main__ import main
from flowersweep.config.compose import compose
from flowersweep.config.files import option_names
from flowersweep.config.schema import Config, Data, Train
from flowersweep.runtime import start
from flowersweep.training.ahead_of_time import tpu
from flowersweep.training.ahead_of_time.abstract import AbstractContext, LoweredProgram
from flowersweep.training.ahead_of_time.tpu import CHIPS, Cost, TooLarge
from flowersweep.training.trial import hyperparameters
from flowersweep.workflows.tpu_check import dataset_of, largest
from tests.conftest import Command
from tests.tiny import tiny

needs_libtpu = pytest.mark.skipif(
    find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install 'flowersweep[tpu-check]'",
)
FINETUNE = Train(
    name="finetune", finetune=True, min_head_steps=0, head_epochs=1, epochs=1, batch_per_replica=8
)
TINY = ["model=tiny", "data.image_size=64", "train.batch_per_replica=8"]


def abstract_context(config: Config) -> AbstractContext:
    runtime = replace(start(), platform="tpu", fast="bfloat16")
    return AbstractContext(config, dataset_of(config, runtime.replicas), runtime)


def exported(program: LoweredProgram) -> str:
    return str(
        jax.export.export(program.function, platforms=["tpu"])(*program.arguments).mlir_module()
    )


@pytest.mark.parametrize("augment", option_names("augment"))
def test_the_fine_tuning_step_is_a_program_for_tpu_without_gathers(augment: str) -> None:
    config = replace(
        tiny(train=FINETUNE, augment=compose([f"augment={augment}"]).augment),
        data=Data(name="none", image_size=32),
    )
    program, batch = abstract_context(config).step(
        config, hyperparameters(config, config.train.all_epochs - 1, 1)
    )
    text = exported(program)
    assert batch == 8 * start().replicas
    assert "stablehlo.convolution" in text
    assert "stablehlo.gather" not in text
    assert "bf16" in text


def test_the_frozen_epoch_and_the_features_are_programs_for_tpu() -> None:
    config = tiny(data=Data(name="none", image_size=32))
    made = abstract_context(config)
    assert "stablehlo.while" in exported(
        made.epoch(config, hyperparameters(config, 0, 1), main=True)[0]
    )
    assert "stablehlo.convolution" in exported(made.extraction()[0])


def test_a_blueprint_leaves_the_precision_of_other_models_alone() -> None:
    import keras

    abstract_context(tiny(data=Data(name="none", image_size=32)))
    assert keras.config.dtype_policy().name == "float32"


MISTAKES = {
    "no topology": (["check", "data.image_size=64"], ["topology=NAME", "v5e:2x4"]),
    "unknown chip": (
        ["check", "data.image_size=64", "topology=v9:2x4"],
        ["topology=v9:2x4", "v5e:1x1, v5e:2x4, v6e:2x4, v4:2x2x1"],
    ),
    "no libtpu": (
        ["check", "data.image_size=64", "topology=v5e:2x4"],
        ["pip install 'flowersweep[tpu-check]'"],
    ),
}


@pytest.mark.parametrize(("words", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_before_anything_is_compiled(
    words: list[str],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tpu, "find_spec", lambda name: None)
    assert main(words) == 1
    message = capsys.readouterr().err
    assert all(part in message for part in told), message


COST = Cost(
    seconds=1, peak=1, flops=197e9, bytes=819e6, estimate=None, gathers=0, reduces=0, moves=0
)


@pytest.mark.parametrize(
    ("cost", "bound"),
    [(COST, (1e-3, "memory")), (replace(COST, flops=394e9), (2e-3, "arithmetic"))],
    ids=["memory", "arithmetic"],
)
def test_a_program_is_bound_by_the_slower_of_arithmetic_and_memory(
    cost: Cost, bound: tuple[float, str]
) -> None:
    seconds, limit = cost.bound(CHIPS["v5e"])
    assert (pytest.approx(seconds), limit) == bound


def test_a_step_in_parts_takes_as_many_loops() -> None:
    config = tiny(
        data=Data(name="none", image_size=32),
        train=replace(FINETUNE, gradient_accumulation_steps=4),
    )
    assert (
        abstract_context(config)
        .step(config, hyperparameters(config, config.train.all_epochs - 1, 1))[0]
        .loops
        == 4
    )
    assert COST.times(4).bound(CHIPS["v5e"]) == (pytest.approx(4e-3), "memory")


@pytest.mark.parametrize("answer", range(16))
@pytest.mark.parametrize(
    "speaking", [True, False], ids=["the compiler says how much", "it does not"]
)
def test_the_largest_batch_that_fits_is_found_in_a_few_compilations(
    answer: int, speaking: bool
) -> None:
    tried: list[int] = []

    def compiled(units: int) -> Cost | TooLarge:
        tried.append(units)
        needed = 1.0 + units
        return (
            replace(COST, peak=needed)
            if units <= answer
            else TooLarge(1, needed if speaking else None, "too large")
        )

    assert (
        largest(compiled, 16, TooLarge(1, 17.0 if speaking else None, "too large"), 1.5 + answer)
        == answer
    )
    assert len(tried) <= 5
    assert len(set(tried)) == len(tried)


def test_operations_are_counted_by_their_whole_name() -> None:
    text = (
        "%gather.1 = f32[2] gather(%a, %b)\n%x = f32[2] all-gather(%gather.1), "
        "metadata={'gather'}\n%y = fusion(%x), calls=%gather.2"
    )
    assert tpu.count(text, "gather") == 1
    assert tpu.count(text, "all-gather") == 1


@needs_libtpu
def test_a_training_that_fits_is_described(command: Command) -> None:
    done = command("check", *TINY, "train=finetune", "topology=v5e:2x4")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert "v5e:2x4: 8 chips (TPU v5 lite) with 15.75 GiB each" in done.stdout
    assert "backbone bfloat16, weights, head and loss float32" in done.stdout
    assert all(
        f"{name} images: fits" in done.stdout
        for name in ("features of 64", "frozen step of 64", "fine-tuning step of 64")
    )
    assert re.search(
        r"fine-tuning step.*\n.*\n.*\n"
        r"  0 gathers, [1-9]\d* all-reduces, 0 other collectives\nit fits\n$",
        done.stdout,
    )


@needs_libtpu
def test_a_batch_that_does_not_fit_fails_and_the_largest_that_does_is_named(
    command: Command,
) -> None:
    done = command(
        "check",
        "model=tiny",
        "train=finetune",
        "data.image_size=512",
        "train.batch_per_replica=4096",
        "topology=v5e:1x1",
    )
    assert done.returncode == 1, done.stderr
    found = re.search(
        r"the largest that fits, in steps of 256: train.batch_per_replica=(\d+)\n"
        r"it does not fit when compiled quickly",
        done.stdout,
    )
    assert found
    assert f"fine-tuning step of {found[1]} images: fits" in done.stdout
    assert f"fine-tuning step of {int(found[1]) + 256} images: does not fit" in done.stdout


@pytest.mark.slow
@needs_libtpu
def test_a_slice_that_does_not_exist_is_told(command: Command) -> None:
    done = command("check", *TINY, "topology=v5e:9x9")
    assert (done.returncode, "v5e:2x4" in done.stderr) == (1, True)


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", tpu.NAMES)
def test_a_real_network_compiles_for_every_slice_that_is_named(
    topology: str, command: Command
) -> None:
    done = command(
        "check",
        "model=mobilenet_v2",
        "train=finetune",
        "train.head_epochs=0",
        "data.image_size=64",
        f"topology={topology}",
    )
    assert done.returncode == 0, done.stderr
    assert "0 gathers" in done.stdout.splitlines()[-2]
