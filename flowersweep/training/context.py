"""What trials share, made once: images, backbone, features, and each stage with its compiled
programs, by compile group.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from flowersweep.config.batches import global_batch, steps_of_epoch
from flowersweep.config.schema import Data, Experiment
from flowersweep.config.targets import arguments, resolve
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.errors import ConfigError
from flowersweep.models.classifier import Classifier, build
from flowersweep.runtime import Runtime, device_bytes
from flowersweep.training import schedules
from flowersweep.training.features import (
    Progress,
    feature_dir,
    feature_files,
    load_or_compute_features,
)
from flowersweep.training.folds import (
    FoldedHeadStage,
    count_folds,
    deal_folds,
    judged_rows,
    pooled_labels,
    training_images,
)
from flowersweep.training.stages import (
    FinetuneStage,
    HeadStage,
    SharedArrays,
    Stage,
    split_and_rows,
)
from flowersweep.training.step import StepComponents

# the schedule of the frozen stage before fine-tuning
CONSTANT = {"warmup": 0, "warmup_start_factor": 1}


StageKind = type[HeadStage] | type[FoldedHeadStage] | type[FinetuneStage]

# of the memory where features lie: what the backbones of a sweep may hold together
MEMORY_SHARE = 0.25


@dataclass
class BackboneCache:
    """What was made for the trials of one backbone on the same images."""

    used: int = 0  # when it was last used; a larger number is later
    classifier: Classifier | None = None
    shared: dict[bool, SharedArrays] = field(default_factory=dict)  # with and without features
    stages: dict[str, Stage] = field(default_factory=dict)  # by compile group

    @property
    def nbytes(self) -> int:
        """The bytes of weights and features."""
        weights = 4 * self.classifier.model.count_params() if self.classifier else 0
        features = self.shared.get(True)
        arrays = [*features.train, *features.features.values()] if features else []
        return int(weights + sum(array.nbytes for array in arrays))


class TrainingContext:
    """Keeps what was made for one trial for the next that needs the same.

    When the backbones of a sweep hold more than ``limit`` bytes, those that were used longest ago
    are made again when a trial needs them.
    """

    def __init__(
        self, runtime: Runtime, cache: Path, progress: Progress, trusted: Sequence[str] = ()
    ) -> None:
        self.runtime, self.cache, self.progress, self.trusted = (
            runtime,
            cache,
            progress,
            tuple(trusted),
        )
        self._datasets: dict[str, Dataset] = {}
        self._backbones: dict[str, BackboneCache] = {}
        self._uses = count()
        device = device_bytes()
        self.limit = int(MEMORY_SHARE * (device or psutil.virtual_memory().total))

    def dataset(self, data: Data) -> Dataset:
        """Return the verified images. Raises DataError naming file and record."""
        key = _key(asdict(replace(data, folds=None)))  # which are no matter of the images
        if key not in self._datasets:
            self._datasets[key] = open_dataset(
                data, self.cache, trusted=self.trusted, share=self.runtime.share
            )
        return self._datasets[key]

    def precompute_features(self, config: Experiment) -> None:
        """Make what takes minutes before a training can begin: the features."""
        self.get_shared(config)

    def get_shared(self, config: Experiment, *, features: bool = True) -> SharedArrays:
        """Return images, backbone and, unless they are not wanted, features for the data and the
        model of a configuration.
        """
        shared = self._backbone(config).shared
        if features not in shared:
            nothing: Any = None
            dataset, classifier = self.dataset(config.data), self.classifier(config)
            shared[features] = (
                self._share(config)
                if features
                else SharedArrays(self.runtime, dataset, classifier, nothing, {})
            )
            self._make_room()
        return shared[features]

    def missing(self, config: Experiment) -> int:
        """Return how many views of images have no features yet."""
        dataset, classifier = self.dataset(config.data), self.classifier(config)
        networks = classifier.members or (classifier,)
        missing = sum(
            len(dataset.splits[name])
            for network in networks
            for name, files in self.feature_files(dataset, network).items()
            for file in files
            if not file.exists()
        )
        return missing // len(networks)

    def feature_files(self, dataset: Dataset, network: Classifier) -> dict[str, list[Path]]:
        """Return the files of a network's features by split, one a view."""
        folder = feature_dir(dataset, network, self.runtime, self.cache / "features")
        return {name: feature_files(folder, name, network.views) for name in dataset.splits}

    def classifier(self, config: Experiment) -> Classifier:
        """Return the network with its pretrained weights.

        Raises ConfigError if they are not to be had.
        """
        backbone = self._backbone(config)
        if backbone.classifier is None:
            dataset = self.dataset(config.data)
            size, classes, lower = (
                dataset.image_size,
                len(dataset.classes),
                self.runtime.platform == "cpu",
            )
            precision = self.runtime.precision
            backbone.classifier = build(
                config.model,
                image_size=size,
                classes=classes,
                lower=lower,
                finetune=config.train.finetune,
                trusted=self.trusted,
                precision=precision,
            )
            self._make_room()
        return backbone.classifier

    def _backbone(self, config: Experiment) -> BackboneCache:
        """Return what there is of the backbone of a configuration, which may be nothing."""
        backbone = self._backbones.setdefault(self._common(config), BackboneCache())
        backbone.used = next(self._uses)
        return backbone

    def _make_room(self) -> None:
        """Forget the backbones that were used longest ago, but never the last one.

        A trial that still trains on one of them keeps it.
        """
        held = sum(backbone.nbytes for backbone in self._backbones.values())
        for key, backbone in sorted(self._backbones.items(), key=lambda item: item[1].used)[:-1]:
            if held <= self.limit:
                return
            held -= backbone.nbytes
            self._backbones.pop(key, None)

    def _common(self, config: Experiment) -> str:
        data = replace(config.data, folds=self.folds(config))
        model = replace(config.model, dropout=0.0, ensemble_loss=0.0)
        return _key(asdict(data), asdict(model), config.train.finetune)

    def _share(self, config: Experiment) -> SharedArrays:
        dataset, classifier = self.dataset(config.data), self.classifier(config)
        self.runtime.require_same(
            "images and weights", f"{dataset.digest} and {classifier.pretrained}"
        )
        # computed and kept split by split, whichever a training takes
        as_split = replace(config.data, train_on="train")
        features = self._features(self.dataset(as_split), classifier)
        trained = ["train"] if config.data == as_split else ["train", "val"]
        rows = np.concatenate([features[split] for split in trained])
        train = self.runtime.replicate((rows, dataset.splits["train"].labels))
        parts = {}
        for part in part_names(dataset):
            split, chosen = split_and_rows(dataset, part)
            parts[part] = self.runtime.replicate(features[split][chosen])
        if self.folds(config) > 1:
            rows = np.concatenate([rows, features["val"][dataset.tune]])
            train = self.runtime.replicate((rows, pooled_labels(dataset)))
            parts["tune"] = train[0]
        return SharedArrays(self.runtime, dataset, classifier, train, parts)

    def _features(self, dataset: Dataset, classifier: Classifier) -> dict[str, np.ndarray]:
        if classifier.members:  # each has its own in the cache, alone or with others
            each = [self._features(dataset, member) for member in classifier.members]
            return {
                name: np.concatenate([features[name] for features in each], axis=1)
                for name in dataset.splits
            }
        bank = self._bank(dataset, classifier)
        return {name: classifier.combine(views) for name, views in bank.items()}

    def _bank(self, dataset: Dataset, classifier: Classifier) -> dict[str, list[np.ndarray]]:
        return load_or_compute_features(
            dataset, classifier, self.runtime, self.cache / "features", progress=self.progress
        )

    def head_stage(self, config: Experiment) -> Stage:
        """Return the frozen stage before fine-tuning, which runs at a constant rate."""
        return self._stage(config, *_head(), CONSTANT)

    def main_stage(self, config: Experiment) -> Stage:
        """Return the stage that the schedule spans."""
        return self._stage(config, *self._main(config), arguments(config.schedule))

    def compile_group_keys(self, config: Experiment) -> tuple[str, ...]:
        """Return the compile groups of a trial, one a stage: trials of the same groups share every
        compiled program.
        """
        # an epoch of a frozen stage is one program, whose length counts
        train, batch = config.train, self.batch(config)
        steps = 0 if train.finetune else self.steps(config, 0)
        main = [_key(self._group(config, *self._main(config)), batch, steps)]
        head = (
            [_key(self._group(config, *_head()), batch, self.steps(config, 0))]
            if train.finetune and train.head_epochs
            else []
        )
        return *head, *main

    def _main(self, config: Experiment) -> tuple[StageKind, Any]:
        return self.main_kind(config), resolve(config.schedule, "schedule", self.trusted)

    def main_kind(self, config: Experiment) -> StageKind:
        """Return what the stage that the schedule spans is."""
        if config.train.finetune:
            return FinetuneStage
        return FoldedHeadStage if self.folds(config) > 1 else HeadStage

    def _group(self, config: Experiment, kind: StageKind, schedule: Any) -> str:
        chosen = [
            kind.__name__,
            str(schedule),
            config.loss["_target_"],
            config.augment.get("_target_"),
            config.optimizer,
        ]
        return _key(self._common(config), chosen, _static(config))

    def _stage(
        self,
        config: Experiment,
        kind: StageKind,
        schedule: Any,
        numbers: Mapping[str, Any],
    ) -> Stage:
        shared = self.get_shared(config, features=kind is not FinetuneStage)
        static, folds = _static(config), self.folds(config)
        key = self._group(config, kind, schedule)
        stages = self._backbone(config).stages
        if key not in stages:
            augment = (
                resolve(config.augment, "augment", self.trusted)
                if config.augment.get("_target_")
                else None
            )
            optimizer = make_optimizer(config, self.trusted)
            loss = make_loss(config, shared.dataset, self.trusted, folds)
            recipe = StepComponents(loss, schedule, optimizer, augment, **static)
            if kind is FoldedHeadStage:
                dealt = deal_folds(
                    pooled_labels(shared.dataset),
                    folds,
                    config.data.split_seed,
                    shared.dataset.extra,
                )
                stages[key] = FoldedHeadStage(shared, recipe, dealt)
            else:
                stages[key] = (FinetuneStage if kind is FinetuneStage else HeadStage)(
                    shared, recipe
                )
            # whichever trial is the first to have its schedule drawn, it compiles nothing
            schedules.curve(schedule, numbers)
        return stages[key]

    def batch(self, config: Experiment) -> int:
        """Return the global batch. Raises ConfigError if the training images do not make one."""
        return global_batch(config.train, self._train_images(config), self.runtime.replicas)

    def steps(self, config: Experiment, epoch: int) -> int:
        """Return the steps of an epoch, counted from 0."""
        return steps_of_epoch(config.train, epoch, self._train_images(config), self.batch(config))

    def folds(self, config: Experiment) -> int:
        """Return the folds that a configuration is judged by; 1: by tune alone."""
        return count_folds(config, self.dataset(config.data))

    def _train_images(self, config: Experiment) -> int:
        return training_images(self.folds(config), self.dataset(config.data))


def _head() -> tuple[StageKind, Any]:
    return HeadStage, schedules.constant


def _static(config: Experiment) -> dict[str, Any]:
    """What a step is made of besides its callables."""
    train = config.train
    return {
        "averaging": train.ema_half_life > 0,
        "clipping": train.gradient_clip_norm is not None,
        "accumulate": train.gradient_accumulation_steps,
        "batch_statistics": train.batch_statistics,
    }


def make_optimizer(config: Experiment, trusted: Sequence[str]) -> Any:
    """Return the optimizer. Raises ConfigError if it refuses its arguments."""
    try:
        return resolve(config.optimizer, "optimizer", trusted)(**arguments(config.optimizer))
    except ValueError as error:
        raise ConfigError(f"optimizer: {error}") from error


def make_loss(
    config: Experiment, dataset: Dataset, trusted: Sequence[str], folds: int = 1
) -> Callable[..., Any]:
    """Return the loss, which is given the training images of each class, float32 (K,), if it has a
    parameter ``class_counts``; with folds, their mean over the heads.
    """
    loss = resolve(config.loss, "loss", trusted)
    if "class_counts" not in inspect.signature(loss).parameters:
        return loss
    train, classes = dataset.splits["train"], len(dataset.classes)
    # an AbstractContext may know their number alone
    labels = np.arange(len(train)) % classes if train.labels is None else train.labels
    counts = np.bincount(labels, minlength=classes)
    if folds > 1:
        pooled = pooled_labels(dataset)
        judged = np.bincount(pooled[judged_rows(dataset)], minlength=classes)
        extra = np.bincount(pooled, minlength=classes) - judged
        counts = (1 - 1 / folds) * judged + extra
    return partial(loss, class_counts=counts.astype(np.float32))


def part_names(dataset: Dataset) -> list[str]:
    """Return the parts that logits are stored for."""
    return ["tune", "holdout", *(["test"] if "test" in dataset.splits else [])]


def _key(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True, default=str)
