"""Frozen features: what the backbone makes of each image, computed once for a whole study and kept
on disk.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache as once
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flowersweep.errors import StudyError
from flowersweep.models.classifier import Classifier
from flowersweep.models.cpu.inference import compile_for_cpu, has_openvino
from flowersweep.models.cpu.lowering import lower_for_cpu
from flowersweep.runtime import Runtime
from flowersweep.util.arrays import map_array, write_mapped
from flowersweep.util.files import write_bytes
from flowersweep.util.locks import take_lock

if TYPE_CHECKING:
    from flowersweep.data.dataset import Dataset, Split

log = logging.getLogger(__name__)

SPEED = "images_per_s.json"  # in the folder of the features: device -> images of one view a second

Progress = Callable[[str, int, int], None]  # what, done, of how many


Extract = Callable[[np.ndarray], np.ndarray]


def load_or_compute_features(
    split: Split,
    paths: Sequence[Path],
    dataset: Dataset,
    classifier: Classifier,
    runtime: Runtime,
    *,
    batch: int = 64,
    progress: Progress,
) -> list[np.ndarray]:
    """Return the pooled features of a split, not scaled: of each view of the images float32 (n, D)
    in file order. The first view is the image, the second its mirror image.

    Only what the files of host 0 do not hold is computed.

    Args:
        paths: The files, see `feature_files`.
        dataset: Says how large its images are.
    """
    # compiled if anything is missing
    extract = once(lambda: TimedExtractor(extractor(classifier, runtime), runtime.hosts))
    load = _local if runtime.hosts == 1 else partial(_common, runtime=runtime)
    rows = partial(_rows, dataset, extract, max(batch, runtime.replicas), progress, split)
    views = [load(path, rows(view)) for view, path in enumerate(paths)]
    if runtime.host == 0 and extract.cache_info().currsize and len(extract().seconds) > 1:
        _keep_speed(paths[0].parent, runtime, extract().images_per_s)
    return views


class TimedExtractor:
    """An extractor that notes how long each batch took; the first one compiles."""

    def __init__(self, extract: Extract, hosts: int) -> None:
        self._extract, self._hosts, self._images = extract, hosts, 0
        self.seconds: list[float] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        began = time.perf_counter()
        features = self._extract(images)
        self.seconds.append(time.perf_counter() - began)
        self._images = len(images) * self._hosts
        return features

    @property
    def images_per_s(self) -> float:
        """Images of one view a second, by the median batch."""
        return self._images / median(self.seconds[1:])


def images_per_second(
    dataset: Dataset, classifier: Classifier, runtime: Runtime, cache: Path, *, batch: int = 64
) -> float:
    """Return how many images a second go through the backbone on these devices, all views of each:
    as measured when its features were computed, or else now.
    """
    if classifier.members:
        rates = [images_per_second(dataset, each, runtime, cache) for each in classifier.members]
        return 1 / sum(1 / rate for rate in rates)
    folder = feature_files(dataset.splits["train"], dataset, classifier, runtime, cache)[0].parent
    try:
        rate = float(json.loads((folder / SPEED).read_text())[runtime.device_kind])
    except (OSError, ValueError, KeyError):
        extract = TimedExtractor(extractor(classifier, runtime), runtime.hosts)
        part = max(batch, runtime.replicas) // runtime.hosts
        noise = np.random.default_rng(0).integers(0, 256, (part, *dataset.image_size, 3))
        for _ in range(4):
            extract(noise.astype(np.uint8))
        rate = extract.images_per_s
        with suppress(OSError, StudyError):
            _keep_speed(folder, runtime, rate)
    return rate / classifier.views


def _keep_speed(folder: Path, runtime: Runtime, rate: float) -> None:
    write_bytes(folder / SPEED, json.dumps({runtime.device_kind: rate}).encode())


def make_room(cache: Path, limit: int, used: Collection[Path]) -> None:
    """Remove the features that were used longest ago, until all of them take ``limit`` bytes; never
    those in the folders that are ``used`` now.
    """
    for folder in used:
        with suppress(OSError):  # features that lie where nothing may be written are as good
            os.utime(folder)
    if not cache.is_dir():
        return
    folders = sorted(cache.iterdir(), key=lambda folder: folder.stat().st_mtime)
    sizes = {each: sum(file.stat().st_size for file in each.glob("*")) for each in folders}
    for folder in folders:
        if sum(sizes.values()) <= limit:
            return
        if folder not in used:
            log.info("%s makes room for other features", folder)
            shutil.rmtree(folder, ignore_errors=True)  # another process may do the same
            del sizes[folder]


def feature_files(
    split: Split, dataset: Dataset, classifier: Classifier, runtime: Runtime, cache: Path
) -> list[Path]:
    """Return the files of a split's features, one a view.

    They are named after the images, their size, how they are resized, the backbone's weights, and
    what computes them.
    """
    images = dataset.delivered_as(split.digest or dataset.digest)
    engine = "-openvino" if _takes_openvino(classifier, runtime) else ""
    folder = cache / f"{images}-{classifier.pretrained}-{classifier.precision}{engine}"
    return [
        folder / f"{split.name}{suffix}.npy" for suffix in ("", "-mirrored")[: classifier.views]
    ]


def _takes_openvino(classifier: Classifier, runtime: Runtime) -> bool:
    one = runtime.platform == "cpu" and runtime.hosts == 1
    return one and classifier.precision == "float32" and has_openvino()


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
    from flowersweep.data.pipeline import padded

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
    if _takes_openvino(classifier, runtime) and (network := compile_for_cpu(classifier.pooled)):
        return network.predict_on_batch
    lowers = runtime.platform == "cpu" and classifier.precision == "float32"
    model = lower_for_cpu(classifier.pooled) if lowers else classifier.pooled
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
