"""Frozen features: what the backbone makes of each image, computed once for a whole study and kept
on disk.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache as once
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowersweep.data.dataset import Dataset, Split
from flowersweep.data.pipeline import padded
from flowersweep.errors import StudyError
from flowersweep.models.classifier import Classifier
from flowersweep.models.cpu.inference import compile_for_cpu, has_openvino
from flowersweep.models.cpu.lowering import lower_for_cpu
from flowersweep.runtime import Runtime
from flowersweep.util.arrays import map_array, write_mapped
from flowersweep.util.locks import take_lock

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # what, done, of how many


Extract = Callable[[np.ndarray], np.ndarray]


def load_or_compute_features(
    dataset: Dataset,
    classifier: Classifier,
    runtime: Runtime,
    cache: Path,
    *,
    batch: int = 64,
    progress: Progress,
) -> dict[str, list[np.ndarray]]:
    """Return the pooled features of every split, not scaled: of each view of the images float32
    (n, D) in file order. The first view is the image, the second its mirror image.

    Only what the ``cache`` of host 0 does not hold is computed.

    They are keyed by the images, their size, how they are resized, the backbone's weights, and
    what computes them.
    """
    folder = feature_dir(dataset, classifier, runtime, cache)
    extract = once(lambda: extractor(classifier, runtime))  # compiled if anything is missing
    load = _local if runtime.hosts == 1 else partial(_common, runtime=runtime)
    rows = partial(_rows, dataset, extract, max(batch, runtime.replicas), progress)
    return {
        name: [load(path, rows(split, view)) for view, path in enumerate(files)]
        for name, split in dataset.splits.items()
        for files in [feature_files(folder, name, classifier.views)]
    }


def feature_files(folder: Path, split: str, views: int) -> list[Path]:
    """Return the files of a split's features, one a view."""
    return [folder / f"{split}{suffix}.npy" for suffix in ("", "-mirrored")[:views]]


def feature_dir(dataset: Dataset, classifier: Classifier, runtime: Runtime, cache: Path) -> Path:
    """Return the folder of the features, whose files `feature_files` names."""
    engine = "-openvino" if _takes_openvino(runtime) else ""
    return cache / f"{dataset.delivered}-{classifier.pretrained}-{runtime.precision}{engine}"


def _takes_openvino(runtime: Runtime) -> bool:
    return runtime.platform == "cpu" and runtime.hosts == 1 and has_openvino()


def _local(path: Path, rows: Iterator[np.ndarray]) -> np.ndarray:
    """Return the features, memory-mapped; computed and kept if they are not there, by one process
    of this machine while others wait.
    """
    if (stored := kept_features(path)) is not None:
        return stored
    with _alone(path):
        if (stored := kept_features(path)) is None:
            _keep(path, np.concatenate(list(rows)))
    return map_array(path) if stored is None else stored


def _common(path: Path, rows: Iterator[np.ndarray], runtime: Runtime) -> np.ndarray:
    """Return the features on every host: host 0 has them, or all compute them together and host 0
    keeps them.
    """
    if runtime.broadcast_bytes(b"kept" if kept_features(path) is not None else b""):
        sent = io.BytesIO(runtime.broadcast_bytes(path.read_bytes() if runtime.host == 0 else None))
        features: np.ndarray = np.load(sent)
        return features
    computed = np.concatenate(list(rows))
    if runtime.host == 0:
        _keep(path, computed)
    return computed


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process of this machine computes what belongs at ``path``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("a")
    except OSError as error:
        raise StudyError(
            f"cannot write {path}: {error.strerror}. Make room and run the same command again"
        ) from error
    with lock:
        take_lock(lock, wait=True)
        yield


def _keep(path: Path, computed: np.ndarray) -> None:
    write_mapped(path, [computed], shape=computed.shape, dtype=computed.dtype)


def kept_features(path: Path) -> np.ndarray | None:
    """Return the features of a file, memory-mapped; None if it is not there or is damaged."""
    if not path.exists():
        return None
    try:
        return map_array(path)
    except StudyError as error:
        log.warning("its features are computed again: %s", error)
        return None


def _rows(
    dataset: Dataset,
    extract: Callable[[], Extract],
    batch: int,
    progress: Progress,
    split: Split,
    view: int,
) -> Iterator[np.ndarray]:
    done, what = 0, f"features of {split.name}" + (", mirrored" if view else "")
    for images in padded(split, dataset.image_size, batch, np.arange(len(split))):
        seen = np.ascontiguousarray(images[:, :, ::-1]) if view else images
        features = extract()(seen)[: len(split) - done]
        yield features
        done += len(features)
        progress(what, done, len(split))


def extractor(classifier: Classifier, runtime: Runtime) -> Extract:
    """Return a function from this host's part of a batch, uint8 (batch / hosts, H, W, 3), to the
    pooled features of all of it, not scaled (batch, D).
    """
    if _takes_openvino(runtime) and (network := compile_for_cpu(classifier.pooled)):
        return network.predict_on_batch
    cpu = runtime.platform == "cpu"
    model = lower_for_cpu(classifier.pooled) if cpu else classifier.pooled
    weights = (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )
    trainable, non_trainable = runtime.replicate(weights)

    @jax.jit
    def run(trainable: list[Array], non_trainable: list[Array], images: Array) -> Array:
        features: Array = model.stateless_call(
            trainable, non_trainable, images.astype(jnp.float32), training=False
        )[0]
        return features

    return lambda images: runtime.gather(run(trainable, non_trainable, runtime.shard_batch(images)))
