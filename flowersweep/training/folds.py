"""Cross-validation over train and tune, where tune is too small to choose by: how many folds, and
which images each has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowersweep.config.schema import Experiment
from flowersweep.data.dataset import Dataset
from flowersweep.errors import ConfigError

FOLDS = 5  # that are chosen by themselves
# images of tune from which it is enough to choose by (docs/design.md, ADR 37)
LARGE_TUNE = 100


def count_folds(config: Experiment, dataset: Dataset) -> int:
    """Return the folds that a configuration is judged by; 1: by tune alone.

    Fine-tuning is judged by tune, since folds cost as many trainings. A training on all images is
    judged by nothing.

    Raises:
        ConfigError: There are fewer images than folds.
    """
    asked, images = config.data.folds, len(dataset.splits["train"]) + len(dataset.tune)
    if config.train.finetune or config.data.train_on == "all":
        return 1
    if asked is None:
        return min(FOLDS, images) if len(dataset.tune) < LARGE_TUNE else 1
    if asked > images:
        raise ConfigError(
            f"data.folds={asked}: train and tune have {images} images. Use fewer folds"
        )
    return asked


def training_images(folds: int, dataset: Dataset) -> int:
    """Return how many images a head trains on: those of all folds but the smallest."""
    if folds == 1:
        return len(dataset.splits["train"])
    images = len(dataset.splits["train"]) + len(dataset.tune)
    return images - images // folds


def pooled_labels(dataset: Dataset) -> np.ndarray:
    """Return the int32 labels (n,) of train, then of tune."""
    train, val = dataset.splits["train"].labels, dataset.splits["val"].labels
    assert train is not None
    assert val is not None
    return np.concatenate([train, val[dataset.tune]])


@dataclass(frozen=True)
class Folds:
    """How images are dealt out: rows of train and tune, in this order."""

    trained: np.ndarray  # int32 (folds, t): what each head trains on
    held_out: np.ndarray  # int32 (folds, h): what each head predicts
    place: np.ndarray  # int32 (n,): where an image is in held_out, counted along its rows

    @property
    def fold_of(self) -> np.ndarray:
        """The fold of each image, int32 (n,)."""
        folds: np.ndarray = self.place // self.held_out.shape[1]
        return folds


def deal_folds(labels: np.ndarray, folds: int, seed: int) -> Folds:
    """Deal images out to folds, stratified: a pure function of labels (n,) and ``seed``.

    Images are put in order of class, at random within a class, and dealt out in turn. A fold that
    is one image short takes its first ones twice, so that all have one length and one program.
    """
    chance = np.random.Generator(np.random.PCG64([seed, folds])).random(len(labels))
    dealt = np.lexsort((chance, labels)).astype(np.int32)
    own = [np.sort(dealt[fold::folds]) for fold in range(folds)]
    others = [np.setdiff1d(dealt, rows) for rows in own]
    held_out, trained = (
        np.stack([np.resize(rows, max(map(len, parts))) for rows in parts])
        for parts in (own, others)
    )
    place = np.empty(len(labels), np.int32)
    for fold, rows in enumerate(own):
        place[rows] = fold * held_out.shape[1] + np.arange(len(rows))
    return Folds(trained, held_out, place)
