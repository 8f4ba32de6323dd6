"""What a trial of the base configuration costs on this machine: a few real steps of each stage,
timed apart from compiling.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from flowersweep.config.keys import settings_with_role
from flowersweep.config.schema import Config, Experiment
from flowersweep.config.setting import TRAINED
from flowersweep.data.dataset import Dataset
from flowersweep.data.pipeline import in_order
from flowersweep.errors import ConfigError
from flowersweep.models.classifier import Classifier
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext, part_names
from flowersweep.training.features import Extract, extractor, kept_features
from flowersweep.training.stages.stage import EpochPlan

# images a batch and batches of the features, steps of fine-tuning, that are timed
BATCH, BATCHES, STEPS = 64, 3, 3

T = TypeVar("T")


@dataclass(frozen=True)
class TrialProfile:
    """Seconds and bytes of one trial of the base configuration."""

    compiling: float  # seconds of its programs, or of loading them
    head: float  # seconds an epoch of the frozen stage before fine-tuning, scoring included
    main: float  # seconds an epoch of the main stage, scoring included
    finish: float  # seconds of the logits and scores of all parts at the end
    image: float  # seconds of the features of one image; 0 if they were not needed
    logits: int  # bytes
    weights: int
    checkpoint: int


class ProfilingContext(TrainingContext):
    """A context in which features that are not there yet are random numbers: as fast to train on,
    and never kept.
    """

    def _bank(self, dataset: Dataset, classifier: Classifier) -> dict[str, list[np.ndarray]]:
        chance, width = np.random.default_rng(0), sum(classifier.widths)

        def load(file: Path, images: int) -> np.ndarray:
            cached = kept_features(file)
            return chance.standard_normal((images, width), np.float32) if cached is None else cached

        return {
            name: [load(file, len(dataset.splits[name])) for file in files]
            for name, files in self.feature_files(dataset, classifier).items()
        }


def profile_trial(config: Config, context: ProfilingContext) -> TrialProfile:
    """Train a few steps of each stage and time them.

    Raises TrialFailed or ConfigError if the machine cannot.
    """
    dataset, cached = (
        context.dataset(config.data),
        Path(config.dir) / "cache" / "plans" / f"{key_of(config, context)}.json",
    )
    needed = config.train.finetune or context.missing(config) > 0
    compiling_image, image = _image(config, context) if needed else (0.0, 0.0)
    (first, seconds), head = (
        _frozen(config, context) if _has_head(config) else ((0.0, 0.0), Checkpoint())
    )
    if config.train.finetune:
        (second, main), trained = _finetune(config, config.train.head_epochs, context, head, image)
        finish = image * sum(
            len(dataset.splits[name]) for name in part_names(dataset) if name in dataset.splits
        )
        finish += image * len(dataset.splits["val"]) * 2  # tune and holdout read all of val, each
    else:
        (second, main), trained = _frozen(config, context)
        finish = _timed(lambda: trial.finish(config, trained, context))[0]
    compiling = first + second + compiling_image
    profile = TrialProfile(
        compiling,
        seconds,
        main,
        finish,
        image,
        _logits(dataset, context.folds(config)),
        _weights(trained).nbytes,
        trained.nbytes,
    )
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_text(json.dumps(asdict(profile)))
    return profile


def load_profile(config: Config, context: TrainingContext) -> TrialProfile | None:
    """Return what was last measured for this configuration on a device of this kind; None if it
    never was.
    """
    path = Path(config.dir) / "cache" / "plans" / f"{key_of(config, context)}.json"
    try:
        return TrialProfile(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def key_of(config: Experiment, context: TrainingContext) -> str:
    """Return a name for what the seconds of a trial depend on."""
    settings = settings_with_role(replace(config, seed=0), TRAINED)
    facts = [
        settings,
        context.dataset(config.data).digest,
        context.runtime.device_kind,
        context.runtime.replicas,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _has_head(config: Experiment) -> bool:
    return config.train.finetune and config.train.head_epochs > 0


def _timed(run: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def _image(config: Experiment, context: ProfilingContext) -> tuple[float, float]:
    """Time a few batches of features; return the seconds of compiling, and those of one image."""
    dataset = context.dataset(config.data)
    size = (BATCH, *dataset.image_size, 3)

    def compiled() -> Extract:
        extract = extractor(context.classifier(config), context.runtime)
        extract(np.zeros(size, np.uint8))
        return extract

    compiling, extract = _timed(compiled)

    def some() -> int:
        batches = in_order(dataset.splits["train"], dataset.image_size, BATCH)
        return sum(len(extract(np.resize(images, size))) for images in islice(batches, BATCHES))

    seconds, images = _timed(some)
    return compiling, seconds / images


def _frozen(
    config: Experiment, context: ProfilingContext
) -> tuple[tuple[float, float], Checkpoint]:
    """Time one epoch of a frozen stage, twice; return the seconds of compiling and those of an
    epoch, and what was trained.
    """
    first, _ = _timed(lambda: trial.advance(config, Checkpoint(), 1, context))
    again, (trained, _) = _timed(lambda: trial.advance(config, Checkpoint(), 1, context))
    return (max(0.0, first - again), again), trained


def _finetune(
    config: Experiment, epoch: int, context: ProfilingContext, head: Checkpoint, image: float
) -> tuple[tuple[float, float], Checkpoint]:
    """Time a few steps of an epoch of fine-tuning; its scoring is that of so many images."""
    batch, steps = context.batch(config), context.steps(config, epoch)
    stage, _ = trial.stage_at(config, epoch, context)
    numbers, initial = (
        trial.hyperparameters(config, epoch, steps, context.runtime.replicas),
        stage.begin(head.state),
    )

    def some(count: int) -> Checkpoint:
        return Checkpoint(
            epoch,
            stage.epoch(
                initial,
                numbers,
                EpochPlan(config.seed, epoch, count, batch),
                lambda state, losses: None,
            )[0],
        )

    try:
        first, trained = _timed(lambda: some(1))
        seconds, _ = _timed(lambda: some(min(STEPS, steps)))
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ConfigError(
            f"out of memory with a batch of {batch}: lower train.batch_per_replica, or raise "
            "train.gradient_accumulation_steps"
        ) from error
    step = seconds / min(STEPS, steps)
    scoring = image * len(context.dataset(config.data).splits["val"])
    return (max(0.0, first - step), step * steps + scoring), trained


def _logits(dataset: Dataset, folds: int) -> int:
    """Bytes of the logits of a trial in float16, with the labels of what it is judged by."""
    train, val, test = (
        len(dataset.splits[name]) if name in dataset.splits else 0
        for name in ("train", "val", "test")
    )
    judged = val + (train if folds > 1 else 0)
    return (judged + test) * len(dataset.classes) * 2 + judged * 4


def _weights(trained: Checkpoint) -> Checkpoint:
    assert trained.state is not None
    return replace(trained, state=trained.state._replace(optimizer=[]))
