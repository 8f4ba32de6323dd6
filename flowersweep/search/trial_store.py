"""What a study keeps on disk: the logits of its best trials, the weights of the best, and never more bytes than it may.

The best trial and the checkpoint of the one that runs are never removed to make room.
"""

from __future__ import annotations

import contextlib
from bisect import insort
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flowersweep.config.schema import Experiment
from flowersweep.errors import StudyError
from flowersweep.execution.protocol import Checkpoint
from flowersweep.search.samplers.keras_tuner.hyperband import promotable
from flowersweep.study.events import Metrics, TrialEnded
from flowersweep.study.objectives import objective_names, objective_values, rank_key
from flowersweep.study.records import TrialRecord
from flowersweep.util.files import write_arrays

KEEP_ALL = 2**31  # as sweep.save_predictions_of_best: nothing is ever removed
PICTURES = (
    "schedule.svg",
    "augmentation.jpg",
    "mistakes.json",
    "mistakes.jpg",
)  # the last two the report leaves
JOURNAL = 64 << 10  # bytes that stay free for the journal's lines between two looks at the folder


class TrialStore:
    """The files of a study's trials, of which one process is the only writer."""

    def __init__(self, folder: Path, config: Experiment, trials: Iterable[TrialRecord]) -> None:
        self.folder, self.keep, self.limit = (
            folder,
            config.sweep.save_predictions_of_best,
            config.sweep.budget.bytes,
        )
        self._names = objective_names(config)
        complete = sorted(
            (record for record in trials if record.state == "complete"), key=self._rank
        )
        there = {path.parent.name for path in folder.glob("trials/*/logits.npz")}
        self._kept = [
            *complete[:1],
            *(record for record in complete[1:] if str(record.number) in there),
        ]
        self._told = [record for record in trials if record.ended and record.hyperband_state]
        self._shrink(self.keep)
        self._clear(
            {record.number for record in trials if record.ended}
            - promotable(self._told, self._rank)
        )

    def _rank(self, record: TrialRecord) -> tuple[tuple[float, ...], int]:
        assert record.value is not None
        return rank_key(
            objective_values(record.value, record.metrics, self._names), self._names
        ), record.number  # the first of equals is the better

    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial; the first of equals."""
        return self._kept[0] if self._kept else None

    def logits(self, record: TrialRecord) -> Path:
        """Return where the logits of a trial lie while it is one of the best."""
        return self.folder / "trials" / str(record.number) / "logits.npz"

    def weights(self, record: TrialRecord) -> Path:
        """Return where the weights of a trial lie while it is the best."""
        return self.folder / "trials" / str(record.number) / "weights.npz"

    def checkpoint(self, record: TrialRecord) -> Path:
        """Return where a trial that runs has its checkpoint."""
        return self.folder / "checkpoints" / f"{record.number}.npz"

    def checkpoint_to_resume(self, record: TrialRecord) -> Path:
        """Return where the checkpoint lies that a trial goes on from: its own, or that of the trial that it takes further."""
        own, other = (
            self.checkpoint(record),
            self.folder / "checkpoints" / f"{record.continues}.npz",
        )
        return other if other.exists() and not own.exists() else own

    def save_checkpoint(self, record: TrialRecord, checkpoint: Checkpoint) -> None:
        """Keep a training. Raises StudyError if the disk or the budget is full."""
        if not self._room(checkpoint.nbytes, worse_than=None):
            raise self._full(checkpoint.nbytes)
        checkpoint.save(self.checkpoint(record))

    def network(self, record: TrialRecord) -> Path:
        """Return where the weights of a trial lie in a study that keeps those of every trial."""
        return network_path(self.folder, record.number)

    def save_network(self, record: TrialRecord, network: Checkpoint) -> None:
        """Keep the weights of a trial. Raises StudyError if the disk or the budget is full."""
        if not self._room(network.nbytes, worse_than=None):
            raise self._full(network.nbytes)
        network.save(self.network(record))

    def save_result(
        self,
        number: int,
        value: float,
        metrics: Metrics,
        arrays: dict[str, Any],
        weights: Checkpoint | None = None,
    ) -> str:
        """Keep the logits of a trial that is among the best, and the weights of the best; return their place in the study's folder.

        Raises StudyError if the disk or the budget is full.
        """
        record = TrialRecord(
            number,
            {},
            metrics=metrics,
            ended=TrialEnded(trial=number, state="complete", value=value),
        )
        place = sum(self._rank(other) < self._rank(record) for other in self._kept)
        needed = sum(array.nbytes for array in arrays.values()) + (
            weights.nbytes if weights and not place else 0
        )
        if place < self.keep and self._room(needed, worse_than=record):
            write_arrays(self.logits(record), arrays)
            if weights and not place:
                weights.save(self.weights(record))
        elif not place:
            raise self._full(needed)
        return str(self.logits(record).parent.relative_to(self.folder))

    def on_trial_end(self, record: TrialRecord) -> None:
        """Take in a trial that was told, and remove what no trial needs any more."""
        self._told += [record] if record.hyperband_state else []
        self._drop(
            {record.number, *(each.number for each in self._told)}
            - promotable(self._told, self._rank)
        )
        if record.state != "complete":
            return
        before = self.best
        if self.logits(record).exists():
            insort(self._kept, record, key=self._rank)
            if record is not self.best:  # it was when it was put here, and another ended before it
                self.weights(record).unlink(missing_ok=True)
        if before is not None and before is not self.best:
            self.weights(before).unlink(missing_ok=True)
        self._shrink(self.keep)

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            (self.folder / "checkpoints" / f"{number}.npz").unlink(missing_ok=True)

    def _shrink(self, length: int) -> None:
        for record in self._kept[length:]:
            self._remove(record)
        del self._kept[length:]

    def _remove(self, record: TrialRecord) -> None:
        for name in ("logits.npz", *PICTURES):
            self.logits(record).with_name(name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there may be files of the user's
            self.logits(record).parent.rmdir()

    def _room(self, needed: int, worse_than: TrialRecord | None) -> bool:
        """Remove the logits of the worst trials until ``needed`` bytes fit; only of those worse than a value, if one is given."""
        if self.limit is None:
            return True
        if self.keep >= KEEP_ALL:  # whose logits are all needed later
            return folder_bytes(self.folder) + needed + JOURNAL <= self.limit
        if folder_bytes(self.folder) + needed + JOURNAL > self.limit:
            self._drop(
                record.number for record in self._told
            )  # what is taken further without it is trained again
        while folder_bytes(self.folder) + needed + JOURNAL > self.limit:
            worst = self._kept[-1] if len(self._kept) > 1 else None
            if worst is None or (
                worse_than is not None and self._rank(worst)[0] <= self._rank(worse_than)[0]
            ):
                return False
            self._shrink(len(self._kept) - 1)
        return True

    def _full(self, needed: int) -> StudyError:
        wanted = folder_bytes(self.folder) + needed + JOURNAL
        return StudyError(
            f"sweep.budget.bytes={self.limit} are used up, and what may be removed was: the next "
            f"files need {wanted} in all. "
            f"Nothing is lost; the same command goes on with sweep.budget.bytes={wanted * 3 // 2}"
        )

    def _clear(self, told: set[int]) -> None:
        """Remove what a killed process left: files that were being written, and those that no trial needs any more."""
        for path in self.folder.rglob("*.partial"):
            path.unlink()
        for path in self.folder.glob("checkpoints/*.npz"):
            if path.stem.isdecimal() and int(path.stem) in told:
                path.unlink()
        for path in self.folder.glob("trials/*/weights.npz"):
            if self.best is None or path != self.weights(self.best):
                path.unlink()


def network_path(folder: Path, number: int) -> Path:
    """Return where a study that keeps the weights of every trial has those of one."""
    return folder / "trials" / str(number) / "network.npz"


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a study's folder but its page and that page's pictures, which can be written again at any time."""
    total = 0
    for path in folder.rglob("*"):
        if path.name in ("report.html", *PICTURES[2:]):
            continue
        with contextlib.suppress(FileNotFoundError):  # MLflow's cursor is replaced while we look
            total += path.stat().st_size if path.is_file() else 0
    return total
