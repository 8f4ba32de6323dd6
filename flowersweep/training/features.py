"""Frozen features: what the backbone makes of each image, computed once for a whole study and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowersweep.data.dataset import Dataset, Split
from flowersweep.data.pipeline import in_order
from flowersweep.errors import StudyError
from flowersweep.models.classifier import Classifier
from flowersweep.runtime import Runtime

Progress = Callable[[str, int, int], None]  # what, done, of how many


Extract = Callable[[np.ndarray], np.ndarray]


def bank(
    dataset: Dataset, classifier: Classifier, runtime: Runtime, cache: Path, *, batch: int = 64, progress: Progress
) -> dict[str, np.ndarray]:
    """Return the features of every split: float32 (n, D) in file order, memory-mapped. Only what ``cache`` does not hold is computed.

    They are keyed by the images, their size and the backbone's weights.
    """
    folder = place(dataset, classifier, runtime, cache)
    folder.mkdir(parents=True, exist_ok=True)
    extract = extractor(classifier, runtime)
    return {name: _split(folder / f"{name}.npy", split, dataset, extract, batch, progress) for name, split in dataset.splits.items()}


def place(dataset: Dataset, classifier: Classifier, runtime: Runtime, cache: Path) -> Path:
    """Return the folder of the features, one file a split: ``NAME.npy``."""
    height, width = dataset.image_size
    return cache / f"{dataset.digest}-{height}x{width}-{classifier.pretrained}-{runtime.precision}"


def _split(path: Path, split: Split, dataset: Dataset, extract: Extract, batch: int, progress: Progress) -> np.ndarray:
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.partial")
        computed = np.concatenate(list(_rows(split, dataset, extract, batch, progress)))
        try:
            with partial.open("wb") as file:
                np.save(file, computed)
            partial.replace(path)
        except OSError as error:
            raise StudyError(f"cannot write {path}: {error.strerror}. Make room and run the same command again") from error
        finally:
            partial.unlink(missing_ok=True)
    rows: np.ndarray = np.load(path, mmap_mode="r")
    return rows


def _rows(split: Split, dataset: Dataset, extract: Extract, batch: int, progress: Progress) -> Iterator[np.ndarray]:
    done = 0
    for images in in_order(split, dataset.image_size, batch):
        full = np.concatenate([images, np.zeros((batch - len(images), *images.shape[1:]), images.dtype)])  # one shape, one program
        yield extract(full)[: len(images)]
        done += len(images)
        progress(f"features of {split.name}", done, len(split))


def extractor(classifier: Classifier, runtime: Runtime) -> Extract:
    """Return a function from uint8 images (batch, H, W, 3) to features (batch, D); the batch is split over the replicas."""
    model = classifier.features
    trainable = jax.device_put([v.value for v in model.trainable_variables], runtime.whole)
    non_trainable = jax.device_put([v.value for v in model.non_trainable_variables], runtime.whole)

    @jax.jit
    def run(trainable: list[Array], non_trainable: list[Array], images: Array) -> Array:
        features: Array = model.stateless_call(trainable, non_trainable, images.astype(jnp.float32), training=False)[0]
        return features

    return lambda images: np.asarray(run(trainable, non_trainable, jax.device_put(images, runtime.split)))
