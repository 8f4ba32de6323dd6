"""A training between two steps, on disk: written elsewhere and moved, so that a half-written one
does not exist.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
BEST = "best"  # before the names of the arrays of the best epoch


@dataclass(frozen=True)
class BestEpoch:
    """The epoch of the main stage that was best on tune so far."""

    epoch: int  # epochs done
    value: float  # its tune/calibrated_nll
    state: State | None = None  # its weights, without an optimizer; None if nobody asks for them


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands: after ``epoch`` whole epochs and a step of the next for each of
    ``losses``.
    """

    epoch: int = 0
    state: State | None = None
    losses: Sequence[Any] = ()  # of the steps of an epoch that is not done yet
    done: tuple[Epoch, ...] = ()  # epochs of a segment that is not done yet
    best: BestEpoch | None = None  # if the training follows it

    @property
    def nbytes(self) -> int:
        """The bytes of its arrays."""
        states = self.state, self.best.state if self.best else None
        return sum(leaf.nbytes for leaf in jax.tree.leaves(states))

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
        best = self.best and replace(self.best, state=jax.device_get(self.best.state))
        state, losses = jax.device_get((self.state, [*self.losses]))
        return Checkpoint(self.epoch, state, losses, self.done, best)

    def save(self, path: Path) -> None:
        """Write the checkpoint to ``path``; either the whole of it is there afterwards, or what was
        there before.
        """
        if self.state is None:
            raise ValueError("nothing was trained yet")
        leaves = _leaves(self.state)
        best = _leaves(self.best.state, BEST) if self.best else {}
        about = {
            "format": FORMAT,
            "epoch": self.epoch,
            "lengths": [len(part) for part in self.state[1:]],
            "leaves": {name: _kind(leaf) for name, leaf in leaves.items()},
            "done": [asdict(epoch) for epoch in self.done],
            **({"best": _describe(self.best, best)} if self.best else {}),
        }
        write_arrays(
            path,
            {
                "about": json.dumps(about).encode(),
                "losses": np.array(jax.device_get([*self.losses]), np.float32),
                **leaves,
                **best,
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
        known = about.get("best", {"leaves": {}})
        if {n: _kind(leaf) for n, leaf in arrays.items()} != {**about["leaves"], **known["leaves"]}:
            raise ValueError("its arrays are not those that it lists")
        best, done = None, tuple(Epoch(**epoch) for epoch in about["done"])
        if "best" in about:
            of_best = jax.device_put(_state(arrays, known), place) if known["leaves"] else None
            best = BestEpoch(known["epoch"], known["value"], of_best)
        state = jax.device_put(_state(arrays, about), place)
        return cls(about["epoch"], state, losses, done, best)


def _leaves(state: State | None, prefix: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of a state by name."""
    return {
        f"{prefix}{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _describe(best: BestEpoch, leaves: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        "epoch": best.epoch,
        "value": best.value,
        "lengths": [len(part) for part in best.state[1:]] if best.state else [],
        "leaves": {name: _kind(leaf) for name, leaf in leaves.items()},
    }


def _state(arrays: dict[str, Any], about: dict[str, Any]) -> State:
    """Return the state whose arrays are listed in ``about``."""
    step, *rest = (arrays[name] for name in about["leaves"])
    cuts = np.cumsum(about["lengths"])[:-1]
    parts = [rest[a:b] for a, b in zip([0, *cuts], [*cuts, len(rest)], strict=True)]
    return State(step, *parts)


def _kind(leaf: np.ndarray) -> list[Any]:
    """Return dtype and shape of an array, as JSON has them."""
    return [str(leaf.dtype), [*leaf.shape]]
