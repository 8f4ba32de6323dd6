"""Decoded training images on the devices, where they fit beside the model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax import Array

from flowersweep.runtime import device_room
from flowersweep.training.stages.stage import SharedArrays
from flowersweep.util.text import bytes_text, quantity

if TYPE_CHECKING:
    from flowersweep.data.dataset import Split

log = logging.getLogger(__name__)

CHUNK = 256  # images that are decoded together
ROOM_SHARE = 0.8  # of the bytes that a whole epoch has left alone


class ResidentImages:
    """Keeps the decoded images of train on every replica from the second epoch on.

    Only then is it known how much memory the steps leave. The batches are the same as those that
    come from the files.
    """

    def __init__(self, shared: SharedArrays, split: Split) -> None:
        self._shared, self._split, self._epochs = shared, split, 0
        self._rows: tuple[Array, Array] | None = None
        runtime = shared.runtime
        self._take = jax.jit(
            lambda images, labels, rows: (images[rows], labels[rows]),
            out_shardings=runtime.batch_sharding,
        )

    def ready(self) -> bool:
        """Say whether the images are there. They are fetched at the second call, if they fit."""
        self._epochs += 1
        if self._epochs == 2 and self._fits():
            self._rows = self._shared.runtime.replicate(self._decoded())
        return self._rows is not None

    def batches(self, order: np.ndarray) -> Iterator[tuple[Array, Array]]:
        """Yield the images and labels of each batch of an order (steps, b)."""
        assert self._rows is not None
        for rows in order:
            yield self._take(*self._rows, self._shared.runtime.replicate(rows.astype(np.int32)))

    def _fits(self) -> bool:
        split, size = self._split, self._shared.dataset.image_size
        nbytes = len(split) * size[0] * size[1] * 3
        room = device_room() if self._shared.runtime.hosts == 1 else None
        if room is None or nbytes > ROOM_SHARE * room or nbytes > split.budget.memory:
            return False
        images = quantity(len(split), "decoded image")
        log.info("%s, %s: kept on the device", images, bytes_text(nbytes))
        return True

    def _decoded(self) -> tuple[np.ndarray, np.ndarray]:
        from flowersweep.data.pipeline import padded

        split, size = self._split, self._shared.dataset.image_size
        chunks = padded(split, size, CHUNK, np.arange(len(split)), keep=True)
        assert split.labels is not None
        return np.concatenate([*chunks])[: len(split)], split.labels
