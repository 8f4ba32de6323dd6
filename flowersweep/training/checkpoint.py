"""A training between two steps, on disk: written elsewhere and moved, so that a half-written one does not exist."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from flowersweep.errors import StudyError
from flowersweep.study.events import Epoch
from flowersweep.training.step import State


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands: after ``epoch`` whole epochs and a step of the next for each of ``losses``."""

    epoch: int = 0
    state: State | None = None
    losses: Sequence[Any] = ()  # of the steps of an epoch that is not done yet
    done: tuple[Epoch, ...] = ()  # epochs of a segment that is not done yet

    @property
    def nbytes(self) -> int:
        """The bytes of its arrays."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))

    def detached(self) -> Checkpoint:
        """Return it off the device, for another process."""
        return Checkpoint(self.epoch, jax.device_get(self.state), jax.device_get([*self.losses]), self.done)

    def save(self, path: Path) -> None:
        """Write the checkpoint to ``path``; either the whole of it is there afterwards, or what was there before."""
        assert self.state is not None
        leaves = {f"leaf{n}": leaf for n, leaf in enumerate(jax.tree.leaves(self.state))}
        about = {"epoch": self.epoch, "lengths": [len(part) for part in self.state[1:]], "done": [asdict(epoch) for epoch in self.done]}
        save_arrays(path, {"about": json.dumps(about), "losses": np.array(jax.device_get([*self.losses]), np.float32), **leaves})

    @classmethod
    def load(cls, path: Path, place: Any = None) -> Checkpoint:
        """Read a checkpoint onto the device or sharding ``place``; the one before the first epoch if there is none."""
        if not path.exists():
            return cls()
        with np.load(path) as file:
            leaves = [file[f"leaf{n}"] for n in range(len(file.files) - 2)]
            about, losses = json.loads(str(file["about"])), tuple(file["losses"])
        step, *rest = leaves
        cuts = np.cumsum(about["lengths"])[:-1]
        parts = [rest[a:b] for a, b in zip([0, *cuts], [*cuts, len(rest)], strict=True)]
        done = tuple(Epoch(**epoch) for epoch in about["done"])
        return cls(about["epoch"], jax.device_put(State(step, *parts), place), losses, done)


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays as .npz elsewhere, then move them to ``path``. Raises StudyError when the disk is full."""
    with replacing(path) as file:
        np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write that is moved to ``path`` once it is whole. Raises StudyError when the disk is full."""
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror}. Make room and run the same command again") from error
    finally:
        partial.unlink(missing_ok=True)
