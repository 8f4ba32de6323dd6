"""Cross-validation over train and tune, where tune is too small to choose by: how many folds, and
which images each has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flowersweep.config.schema import Experiment
from flowersweep.errors import ConfigError

if TYPE_CHECKING:
    from flowersweep.data.dataset import Dataset
    from flowersweep.data.extra.selection import ExtraImages

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
    asked, images = config.data.folds, _count_judged(dataset)
    if config.train.finetune or config.data.train_on == "all":
        return 1
    if dataset.pseudo is not None:  # by a model that has seen the labels of train, of every fold
        if asked is not None and asked > 1:
            raise ConfigError(
                f"data.folds={asked}: the model of data.pseudo_labels has seen train, so no fold "
                "of it is untouched. Use data.folds=1"
            )
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
        return len(dataset.splits["train"]) + (len(dataset.pseudo.labels) if dataset.pseudo else 0)
    images = _count_judged(dataset)
    return images - images // folds + len(dataset.extra.rows)


def _count_judged(dataset: Dataset) -> int:
    return len(dataset.splits["train"]) + len(dataset.tune) - len(dataset.extra.rows)


def pooled_labels(dataset: Dataset) -> np.ndarray:
    """Return the int32 labels (n,) of train, then of tune."""
    train, val = dataset.splits["train"].labels, dataset.splits["val"].labels
    assert train is not None
    assert val is not None
    return np.concatenate([train, val[dataset.tune]])


def judged_rows(dataset: Dataset) -> np.ndarray:
    """Return which of train and tune, in this order, folds judge by: all but extra images."""
    images = len(dataset.splits["train"]) + len(dataset.tune)
    return np.setdiff1d(np.arange(images), dataset.extra.rows)


@dataclass(frozen=True)
class Folds:
    """How images are dealt out: rows of train and tune, in this order."""

    trained: np.ndarray  # int32 (folds, t): what each head trains on
    held_out: np.ndarray  # int32 (folds, h): what each head predicts
    place: np.ndarray  # int32 (j,): where a judged image is in held_out, counted along its rows
    fold_of: np.ndarray  # int32 (n,): the fold of each image; -1: extra, never held out


def deal_folds(
    labels: np.ndarray, folds: int, seed: int, extra: ExtraImages | None = None
) -> Folds:
    """Deal images out to folds, stratified: a pure function of labels (n,), ``seed`` and ``extra``.

    Images are put in order of class, at random within a class, and dealt out in turn. Extra images
    are trained on by every head, but for those that are nearly the same as one that it predicts. A
    fold that is short of images takes some twice, so that all have one length and one program.
    """
    extra_rows = np.empty(0, np.int32) if extra is None else extra.rows
    twins = np.empty((0, 2), np.int32) if extra is None else extra.twins
    judged = np.setdiff1d(np.arange(len(labels), dtype=np.int32), extra_rows)
    chance = np.random.Generator(np.random.PCG64([seed, folds])).random(len(judged))
    dealt = judged[np.lexsort((chance, labels[judged]))]
    own = [np.sort(dealt[fold::folds]) for fold in range(folds)]
    fold_of = np.full(len(labels), -1, np.int32)
    for fold, rows in enumerate(own):
        fold_of[rows] = fold
    trained = []
    for fold, rows in enumerate(own):
        seen = twins[fold_of[twins[:, 1]] == fold, 0]
        trained.append(
            np.setdiff1d(np.arange(len(labels), dtype=np.int32), np.concatenate([rows, seen]))
        )
    length = len(labels) - min(map(len, own))
    held_out = np.stack([_fill(rows, max(map(len, own))) for rows in own])
    place = np.empty(len(labels), np.int32)
    for fold, rows in enumerate(own):
        place[rows] = fold * held_out.shape[1] + np.arange(len(rows))
    return Folds(
        np.stack([_fill(rows, length) for rows in trained]), held_out, place[judged], fold_of
    )


def _fill(rows: np.ndarray, length: int) -> np.ndarray:
    """Return so many rows: after all of them, some from even places again."""
    places = np.arange(length - len(rows)) * len(rows) // max(length - len(rows), 1)
    return np.concatenate([rows, rows[places]]).astype(np.int32)
