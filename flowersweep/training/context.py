"""What trials share, made once: images, backbone, features, and each stage with its compiled
programs, by compile group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowersweep.config.batches import global_batch, steps_of_epoch
from flowersweep.config.schema import Data, Experiment
from flowersweep.config.targets import arguments, resolve
from flowersweep.data.dataset import Dataset, Split, open_dataset
from flowersweep.data.pipeline import require_any_order
from flowersweep.errors import ConfigError
from flowersweep.models.classifier import Classifier, build, sized
from flowersweep.models.drop_path import blocks
from flowersweep.runtime import Runtime
from flowersweep.training import schedules
from flowersweep.training.backbone_cache import BackboneCache, BackboneEntry
from flowersweep.training.components import make_components, static_settings
from flowersweep.training.features import (
    Progress,
    feature_files,
    images_per_second,
    load_or_compute_features,
    make_room,
)
from flowersweep.training.folds import count_folds, deal_folds, pooled_labels, training_images
from flowersweep.training.stages.finetune import FinetuneStage
from flowersweep.training.stages.folded import FoldedHeadStage
from flowersweep.training.stages.head import HeadStage
from flowersweep.training.stages.stage import PARTS, SharedArrays, Stage

StageKind = type[HeadStage] | type[FoldedHeadStage] | type[FinetuneStage]

# the frozen stage before fine-tuning, and the numbers of its schedule
HEAD: tuple[StageKind, Any] = (HeadStage, schedules.constant)
CONSTANT = {"warmup": 0, "warmup_start_factor": 1}


class TrainingContext:
    """Keeps what was made for one trial for the next that needs the same."""

    def __init__(
        self, runtime: Runtime, cache: Path, progress: Progress, trusted: Sequence[str] = ()
    ) -> None:
        self.runtime, self.cache, self.progress = runtime, cache, progress
        self.trusted, self.backbones = tuple(trusted), BackboneCache()
        self._datasets: dict[str, Dataset] = {}

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
            without = SharedArrays(self.runtime, dataset, classifier, nothing, {})
            shared[features] = self._share(config) if features else without
            self.backbones.make_room()
        return shared[features]

    def missing(self, config: Experiment) -> int:
        """Return how many views of images have no features yet."""
        dataset, classifier = self.dataset(config.data), self.classifier(config)
        networks = classifier.members or (classifier,)
        files = {
            file: len(part)
            for network in networks
            for parts in _parts(dataset).values()
            for part in parts
            for file in self._feature_files(part, dataset, network)
        }
        missing = sum(images for file, images in files.items() if not file.exists())
        return missing // len(networks)

    def _feature_files(self, part: Split, dataset: Dataset, network: Classifier) -> list[Path]:
        return feature_files(part, dataset, network, self.runtime, self.cache / "features")

    def classifier(self, config: Experiment) -> Classifier:
        """Return the network with its pretrained weights.

        Raises ConfigError if they are not to be had.
        """
        backbone = self._backbone(config)
        if backbone.classifier is None:
            dataset = self.dataset(config.data)
            backbone.classifier = build(
                sized(config.model, config.data.image_size),
                image_size=dataset.image_size,
                classes=len(dataset.classes),
                lower=self._lowers(config),
                finetune=config.train.finetune,
                trusted=self.trusted,
                precision=self.precision(config),
            )
            self.backbones.make_room()
        if config.model.drop_path and not blocks(backbone.classifier.backbone):
            raise ConfigError(
                f"model.drop_path={config.model.drop_path}: the network has no blocks that can be "
                "skipped. Leave it out, or take a transformer, such as model=vit_b16"
            )
        return backbone.classifier

    def precision(self, config: Experiment) -> str:
        """Return what the backbone computes in: float32 or bfloat16."""
        return self.runtime.precision(config.runtime.precision)

    def _backbone(self, config: Experiment) -> BackboneEntry:
        return self.backbones.get(self._common(config))

    def _common(self, config: Experiment) -> str:
        data = replace(config.data, folds=self.folds(config))
        model = replace(config.model, dropout=0.0, ensemble_loss=0.0, drop_path=0.0)
        return _key(asdict(data), asdict(model), config.train.finetune, self.precision(config))

    def _share(self, config: Experiment) -> SharedArrays:
        dataset, classifier = self.dataset(config.data), self.classifier(config)
        self.runtime.require_same(
            "images and weights", f"{dataset.digest} and {classifier.pretrained}"
        )
        features = self._features(dataset, classifier)
        self._make_room(dataset, classifier, config.data.features_bytes)
        rows = features["train"]
        train = self.runtime.replicate((rows, dataset.trained().labels))
        parts = {}
        for part in PARTS:
            parts[part] = self.runtime.replicate(features["val"][getattr(dataset, part)])
        if self.folds(config) > 1:
            rows = np.concatenate([rows, features["val"][dataset.tune]])
            train = self.runtime.replicate((rows, pooled_labels(dataset)))
            parts["tune"] = train[0]
        return SharedArrays(self.runtime, dataset, classifier, train, parts)

    def _lowers(self, config: Experiment) -> bool:
        """Whether the network is trained, in float32, on a CPU."""
        on_cpu = self.runtime.platform == "cpu"
        return on_cpu and config.train.finetune and self.precision(config) == "float32"

    def _make_room(self, dataset: Dataset, classifier: Classifier, limit: int) -> None:
        if self.runtime.host == 0:
            used = {
                self._feature_files(part, dataset, network)[0].parent
                for network in classifier.members or (classifier,)
                for parts in _parts(dataset).values()
                for part in parts
            }
            make_room(self.cache / "features", limit, used)

    def _features(self, dataset: Dataset, classifier: Classifier) -> dict[str, np.ndarray]:
        if classifier.members:  # each has its own in the cache, alone or with others
            each = [self._features(dataset, member) for member in classifier.members]
            return {
                name: np.concatenate([features[name] for features in each], axis=1)
                for name in each[0]
            }
        return {
            name: np.concatenate(
                [classifier.combine(self._views(part, dataset, classifier)) for part in parts]
            )
            for name, parts in _parts(dataset).items()
        }

    def _views(self, part: Split, dataset: Dataset, classifier: Classifier) -> list[np.ndarray]:
        """Return the features of each view of images that were stored together."""
        paths = self._feature_files(part, dataset, classifier)
        return load_or_compute_features(
            part, paths, dataset, classifier, self.runtime, progress=self.progress
        )

    def costs(self, config: Experiment) -> dict[str, float]:
        """Return what the network of a configuration costs here, as objectives name it."""
        dataset, classifier = self.dataset(config.data), self.classifier(config)
        cache = self.cache / "features"
        rate = images_per_second(dataset, classifier, self.runtime, cache)
        return {"images_per_s": rate, "parameters": float(classifier.model.count_params())}

    def head_stage(self, config: Experiment) -> Stage:
        """Return the frozen stage before fine-tuning, which runs at a constant rate."""
        return self._stage(config, *HEAD, CONSTANT)

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
        main = _key(self._group(config, *self._main(config)), batch, steps)
        if not (train.finetune and train.head_epochs):
            return (main,)
        return _key(self._group(config, *HEAD), batch, self.steps(config, 0)), main

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
        return _key(self._common(config), chosen, static_settings(config))

    def _stage(
        self,
        config: Experiment,
        kind: StageKind,
        schedule: Any,
        numbers: Mapping[str, Any],
    ) -> Stage:
        shared = self.get_shared(config, features=kind is not FinetuneStage)
        key, stages = self._group(config, kind, schedule), self._backbone(config).stages
        if key not in stages:
            dataset, folds = shared.dataset, self.folds(config)
            recipe = make_components(config, schedule, dataset, trusted=self.trusted, folds=folds)
            if kind is FoldedHeadStage:
                labels, seed = pooled_labels(dataset), config.data.split_seed
                dealt = deal_folds(labels, folds, seed, dataset.extra)
                stages[key] = FoldedHeadStage(shared, recipe, dealt)
            else:
                plain = FinetuneStage if kind is FinetuneStage else HeadStage
                stages[key] = plain(shared, recipe)
            # whichever trial is the first to have its schedule drawn, it compiles nothing
            schedules.curve(schedule, numbers)
        return stages[key]

    def batch(self, config: Experiment) -> int:
        """Return the global batch.

        Raises:
            ConfigError: The training images do not make one.
            DataError: They cannot be read as often as `train.min_class_images` wants.
        """
        if config.train.min_class_images and config.data.pseudo_labels:
            raise ConfigError(
                "train.min_class_images and data.pseudo_labels do not go together: leave one out"
            )
        if config.train.finetune and config.train.min_class_images:
            require_any_order(self.dataset(config.data).splits["train"])
        return global_batch(config.train, self._train_images(config), self.runtime.replicas)

    def steps(self, config: Experiment, epoch: int) -> int:
        """Return the steps of an epoch, counted from 0."""
        return steps_of_epoch(config.train, epoch, self._train_images(config), self.batch(config))

    def folds(self, config: Experiment) -> int:
        """Return the folds that a configuration is judged by; 1: by tune alone."""
        return count_folds(config, self.dataset(config.data))

    def _train_images(self, config: Experiment) -> int:
        return training_images(self.folds(config), self.dataset(config.data))


def _parts(dataset: Dataset) -> dict[str, tuple[Split, ...]]:
    """Return the images whose features a training needs; who predicts test, sees its images."""
    return {"train": dataset.trained().parts, "val": dataset.splits["val"].parts}


def _key(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True, default=str)
