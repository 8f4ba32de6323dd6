"""A training between two steps, on disk: written elsewhere and moved, so that a half-written one does not exist."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import numpy as np

from flowersweep.errors import StudyError
from flowersweep.study.events import Epoch
from flowersweep.training.step import State
from flowersweep.util.files import write_arrays

log = logging.getLogger(__name__)

FORMAT = 1  # of the file


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
        return Checkpoint(self.epoch, jax.device_get(self.state), jax.device_get([*self.losses]), self.done)

    def save(self, path: Path) -> None:
        """Write the checkpoint to ``path``; either the whole of it is there afterwards, or what was there before."""
        if self.state is None:
            raise ValueError("nothing was trained yet")
        leaves = {f"leaf{n}": leaf for n, leaf in enumerate(jax.tree.leaves(self.state))}
        about = {
            "format": FORMAT,
            "epoch": self.epoch,
            "lengths": [len(part) for part in self.state[1:]],
            "done": [asdict(epoch) for epoch in self.done],
        }
        write_arrays(path, {"about": json.dumps(about), "losses": np.array(jax.device_get([*self.losses]), np.float32), **leaves})

    @classmethod
    def load(cls, path: Path, place: Any = None) -> Checkpoint:
        """Read a checkpoint onto the device or sharding ``place``.

        Raises:
            StudyError: The file is not there, or cannot be read.
        """
        try:
            return cls._read(path, place)
        except FileNotFoundError as error:
            raise StudyError(f"{path} is not there. Restore it from a copy") from error
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise StudyError(f"{path} cannot be read ({error}). Restore it from a copy") from error

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
    def _read(cls, path: Path, place: Any) -> Checkpoint:
        with path.open("rb") as opened, np.load(opened) as file:
            leaves = [file[f"leaf{n}"] for n in range(len(file.files) - 2)]
            about, losses = json.loads(str(file["about"])), tuple(file["losses"])
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']}, not {FORMAT}")
        step, *rest = leaves
        cuts = np.cumsum(about["lengths"])[:-1]
        parts = [rest[a:b] for a, b in zip([0, *cuts], [*cuts, len(rest)], strict=True)]
        done = tuple(Epoch(**epoch) for epoch in about["done"])
        return cls(about["epoch"], jax.device_put(State(step, *parts), place), losses, done)
