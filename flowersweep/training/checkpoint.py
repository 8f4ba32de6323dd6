"""A training between two steps, on disk: written elsewhere and moved, so that a half-written one
does not exist.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowersweep.errors import StudyError
from flowersweep.study.events import Epoch
from flowersweep.training.step import State
from flowersweep.util.arrays import read_arrays, write_arrays

log = logging.getLogger(__name__)

FORMAT = 1  # of the file


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands: after ``epoch`` whole epochs and a step of the next for each of
    ``losses``.
    """

    epoch: int = 0
    state: State | None = None
    losses: Sequence[Any] = ()  # of the steps of an epoch that is not done yet
    done: tuple[Epoch, ...] = ()  # epochs of a segment that is not done yet

    @property
    def nbytes(self) -> int:
        """The bytes of its arrays."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))

    @property
    def steps(self) -> int:
        """Steps of the next epoch that are done."""
        return len(self.losses)

    def without_optimizer(self) -> Checkpoint:
        """Return the trained weights alone, as of the last whole epoch."""
        if self.state is None:
            raise ValueError("nothing was trained yet")
        return Checkpoint(self.epoch, self.state._replace(optimizer=[]))

    def detached(self) -> Checkpoint:
        """Return it off the device, for another process."""
        return Checkpoint(
            self.epoch, jax.device_get(self.state), jax.device_get([*self.losses]), self.done
        )

    def save(self, path: Path) -> None:
        """Write the checkpoint to ``path``; either the whole of it is there afterwards, or what was
        there before.
        """
        if self.state is None:
            raise ValueError("nothing was trained yet")
        leaves = {
            jax.tree_util.keystr(path): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(self.state)
        }
        about = {
            "format": FORMAT,
            "epoch": self.epoch,
            "lengths": [len(part) for part in self.state[1:]],
            "leaves": {name: _kind(leaf) for name, leaf in leaves.items()},
            "done": [asdict(epoch) for epoch in self.done],
        }
        write_arrays(
            path,
            {
                "about": json.dumps(about).encode(),
                "losses": np.array(jax.device_get([*self.losses]), np.float32),
                **leaves,
            },
        )

    @classmethod
    def load(cls, path: Path, place: Any = None) -> Checkpoint:
        """Read a checkpoint onto the device or sharding ``place``.

        Raises:
            StudyError: The file is not there, or cannot be read.
        """
        arrays = read_arrays(path)
        try:
            return cls._from_arrays(arrays, place)
        except (ValueError, KeyError, TypeError) as error:
            raise StudyError(
                f"{path} is no checkpoint of this version ({error}). Restore it from a copy"
            ) from error

    @classmethod
    def resume(cls, path: Path, place: Any = None) -> Checkpoint:
        """Read a checkpoint; return the one before the first epoch if it is not there or broken.

        Training goes on from the start then, with the same numbers.
        """
        if not path.exists():
            return cls()
        try:
            return cls.load(path, place)
        except StudyError as error:
            log.warning("the training starts again: %s", error)
            return cls()

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Any], place: Any) -> Checkpoint:
        about, losses = json.loads(arrays.pop("about").item()), tuple(arrays.pop("losses"))
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']}, not {FORMAT}")
        if {name: _kind(leaf) for name, leaf in arrays.items()} != about["leaves"]:
            raise ValueError("its arrays are not those that it lists")
        step, *rest = (arrays[name] for name in about["leaves"])
        cuts = np.cumsum(about["lengths"])[:-1]
        parts = [rest[a:b] for a, b in zip([0, *cuts], [*cuts, len(rest)], strict=True)]
        done = tuple(Epoch(**epoch) for epoch in about["done"])
        return cls(about["epoch"], jax.device_put(State(step, *parts), place), losses, done)


def _kind(leaf: np.ndarray) -> list[Any]:
    """Return dtype and shape of an array, as JSON has them."""
    return [str(leaf.dtype), [*leaf.shape]]
