"""Whether a training fits a slice of TPU chips, and how fast it can be there: its programs are
compiled, none is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from flowersweep.config.schema import Config, Experiment
from flowersweep.data.classes import read_classes
from flowersweep.data.dataset import Dataset, Split, open_dataset
from flowersweep.errors import ConfigError
from flowersweep.training.ahead_of_time import tpu
from flowersweep.training.ahead_of_time.abstract import AbstractContext, LoweredProgram
from flowersweep.training.ahead_of_time.tpu import GIB, Chip, Cost, TooLarge
from flowersweep.training.trial import hyperparameters

CLASSES, IMAGES = 104, 12_753  # of the published data set, where there is no other to count
PARTS = 16  # the largest batch that fits is found to a sixteenth of the one that was asked for

Say = Callable[[str], None]


def run_tpu_check(config: Config, say: Say) -> bool:
    """Compile every program of a training for ``config.topology``; say what each costs, and return
    whether all of them fit.

    Raises ConfigError before anything is compiled: an unknown slice, no libtpu, no image size.
    """
    chip = tpu.chip_of(config.topology)
    runtime = tpu.slice_of(str(config.topology))
    dataset = dataset_of(config, runtime.replicas)
    abstract = AbstractContext(config, dataset, runtime)
    size = "x".join(map(str, dataset.image_size))
    say(
        f"{config.topology}: {runtime.replicas} chips ({runtime.device_kind}) with "
        f"{chip.memory / GIB:g} GiB each"
    )
    say(
        f"{config.model.name}, {size} pixels, {len(dataset.classes)} classes; backbone "
        f"{abstract.precision(config)}{' (computed anew backwards)' * config.runtime.remat}, "
        "weights, head and loss float32"
    )
    fit = isinstance(_told("features", *abstract.extraction(), chip, say), Cost)
    if not config.train.finetune or config.train.head_epochs:
        numbers = hyperparameters(config, 0, 1)
        epoch = abstract.epoch(config, numbers, main=not config.train.finetune)
        fit &= isinstance(_told("frozen step", *epoch, chip, say), Cost)
    if config.train.finetune:
        fit &= _step_told(config, abstract, chip, say)
    doubt = (
        (
            " when compiled quickly, which takes more memory; to be sure, set "
            "JAX_OPTIMIZATION_LEVEL=O2 and wait"
        )
        if tpu.quick()
        else ""
    )
    say("it fits" if fit else f"it does not fit{doubt}")
    return fit


def dataset_of(config: Config, replicas: int) -> Dataset:
    """Return what is known of the images: all of it where their folder is given, else their size
    and how many classes there are.
    """
    if config.data.dir is not None:
        return open_dataset(config.data, Path(config.dir) / "cache", trusted=config.trusted_modules)
    side = config.data.image_size
    if side is None:
        raise ConfigError(
            "check compiles for one size of images: set data.image_size=PIXELS, or "
            "data.dir=PATH to read it from there"
        )
    classes = read_classes(config.data.classes, ".") if config.data.classes else None
    nothing = np.empty(0, np.int64)
    train = Split(
        "train", (), None, np.empty(max(IMAGES, config.train.batch_per_replica * replicas), np.str_)
    )
    return Dataset(
        "none", "", classes or ("",) * CLASSES, (side, side), "", {"train": train}, nothing, nothing
    )


def _told(name: str, program: LoweredProgram, batch: int, chip: Chip, say: Say) -> Cost | TooLarge:
    outcome = tpu.compiled(program.lowered(), held=program.held, memory=chip.memory)
    outcome = outcome.times(program.loops) if isinstance(outcome, Cost) else outcome
    say(format_cost(f"{name} of {batch} images", batch, outcome, chip))
    return outcome


def _step_told(config: Experiment, abstract: AbstractContext, chip: Chip, say: Say) -> bool:
    """Compile the fine-tuning step; where it does not fit, look for a batch that does."""
    numbers = hyperparameters(config, config.train.all_epochs - 1, 1)

    def compiled(per_replica: int) -> Cost | TooLarge:
        changed = replace(config, train=replace(config.train, batch_per_replica=per_replica))
        return _told("fine-tuning step", *abstract.step(changed, numbers), chip, say)

    asked, parts = config.train.batch_per_replica, config.train.gradient_accumulation_steps
    outcome = compiled(asked)
    if isinstance(outcome, Cost):
        return True
    unit = parts * max(1, asked // (PARTS * parts))
    batch = unit * largest(
        lambda units: compiled(units * unit), asked // unit, outcome, chip.memory
    )
    least = "use smaller images, or more of train.gradient_accumulation_steps"
    say(
        f"the largest that fits, in steps of {unit}: train.batch_per_replica={batch}"
        if batch
        else f"no smaller batch fits: {least}"
    )
    return False


def largest(
    compiled: Callable[[int], Cost | TooLarge], high: int, outcome: TooLarge, memory: float
) -> int:
    """Return the largest number below ``high`` whose program fits, 0 if none does; ``outcome`` is
    that of ``high``.

    The next to try is where the memory would be full if it grew in proportion, for a compilation
    can take minutes.
    """
    low, tried, used = 0, high, outcome.needed
    while high - low > 1:
        guess = int(tried * memory / used) if used else (low + high) // 2
        tried = min(max(guess, low + 1), high - 1)
        last = compiled(tried)
        low, high = (tried, high) if isinstance(last, Cost) else (low, tried)
        used = last.peak if isinstance(last, Cost) else last.needed
    return low


def format_cost(name: str, batch: int, outcome: Cost | TooLarge, chip: Chip) -> str:
    """Describe one program in a few lines."""
    if isinstance(outcome, TooLarge):
        return f"\n{name}: does not fit; compiled in {outcome.seconds:.0f} s\n  {outcome.reason}"
    seconds, limit = outcome.bound(chip)
    expected = f"; the compiler expects {outcome.estimate * 1e3:.2f} ms" if outcome.estimate else ""
    return "\n".join(
        [
            (
                f"\n{name}: fits, {outcome.peak / GIB:.2f} of {chip.memory / GIB:g} GiB at the "
                f"peak; compiled in {outcome.seconds:.0f} s"
            ),
            (
                f"  {seconds * 1e3:.2f} ms at least, bound by {limit}: {batch / seconds:,.0f} "
                f"images/s at most{expected}"
            ),
            (
                f"  each chip computes {outcome.flops / 1e9:,.2f} GFLOP and moves "
                f"{outcome.bytes / 1e9:,.2f} GB"
            ),
            (
                f"  {outcome.gathers} gathers, {outcome.reduces} all-reduces, {outcome.moves} "
                "other collectives"
            ),
        ]
    )
