"""The files of a study: logits of its best trials, weights of the best few, checkpoints.

The store stays within the byte budget. To make room it removes neither the best trial nor the
checkpoint of a running one.
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
from flowersweep.util.arrays import write_arrays

KEEP_ALL = 2**31  # as sweep.save_predictions_of_best: never remove logits
# the report writes the last two
PICTURES = ("schedule.svg", "augmentation.jpg", "mistakes.json", "mistakes.jpg")
JOURNAL = 64 << 10  # bytes reserved for the journal between two measurements of the folder


class TrialStore:
    """The files of a study's trials. Only one process writes them."""

    def __init__(self, folder: Path, config: Experiment, trials: Iterable[TrialRecord]) -> None:
        self.folder, self.limit = folder, config.sweep.budget.bytes
        self.keep = config.sweep.save_predictions_of_best
        self.keep_weights = min(config.sweep.save_weights_of_best, self.keep)
        self._names = objective_names(config)
        complete = sorted(
            (record for record in trials if record.state == "complete"), key=self._rank
        )
        with_logits = {path.parent.name for path in folder.glob("trials/*/logits.npz")}
        self._best_first = [
            *complete[:1],
            *(record for record in complete[1:] if str(record.number) in with_logits),
        ]
        self._told = [record for record in trials if record.ended and record.hyperband_state]
        self._shrink(self.keep)
        self._clear(
            {record.number for record in trials if record.ended}
            - promotable(self._told, self._rank)
        )

    def _rank(self, record: TrialRecord) -> tuple[tuple[float, ...], int]:
        assert record.value is not None
        values = objective_values(record.value, record.metrics, self._names)
        return rank_key(values, self._names), record.number  # the earlier of equals is better

    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial; the earliest of equals."""
        return self._best_first[0] if self._best_first else None

    def logits(self, record: TrialRecord) -> Path:
        """Return the path of a trial's logits, which exist while it is among the best."""
        return self.folder / "trials" / str(record.number) / "logits.npz"

    def weights(self, record: TrialRecord) -> Path:
        """Return the path of a trial's weights, which exist while it is among the best few."""
        return self.folder / "trials" / str(record.number) / "weights.npz"

    def checkpoint(self, record: TrialRecord) -> Path:
        """Return the path of a running trial's checkpoint."""
        return self.folder / "checkpoints" / f"{record.number}.npz"

    def checkpoint_to_resume(self, record: TrialRecord) -> Path:
        """Return the checkpoint to resume from: the trial's own, or that of its predecessor."""
        own = self.checkpoint(record)
        other = own.with_name(f"{record.continues}.npz")
        return other if other.exists() and not own.exists() else own

    def save_checkpoint(self, record: TrialRecord, checkpoint: Checkpoint) -> None:
        """Save a checkpoint. Raises StudyError if the disk or the budget is full."""
        if not self._room(checkpoint.nbytes, worse_than=None):
            raise self._full(checkpoint.nbytes)
        checkpoint.save(self.checkpoint(record))

    def network(self, record: TrialRecord) -> Path:
        """Return the path of a trial's weights in a study that keeps those of every trial."""
        return network_path(self.folder, record.number)

    def save_network(self, record: TrialRecord, network: Checkpoint) -> None:
        """Save the weights of a trial. Raises StudyError if the disk or the budget is full."""
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
        """Save the logits of a trial if it is among the best.

        Its weights are saved if it is the best, or among the best few and there is room.

        Returns:
            The folder of the trial, relative to the study's folder.

        Raises:
            StudyError: The disk or the budget is full.
        """
        record = TrialRecord(
            number,
            {},
            metrics=metrics,
            ended=TrialEnded(trial=number, state="complete", value=value),
        )
        place = sum(self._rank(other) < self._rank(record) for other in self._best_first)
        saved = weights if place < self.keep_weights else None
        needed = sum(array.nbytes for array in arrays.values()) + (
            saved.nbytes if saved and not place else 0
        )
        if place < self.keep and self._room(needed, worse_than=record):
            write_arrays(self.logits(record), arrays)
            if saved and (not place or self._room(saved.nbytes, worse_than=record, logits=False)):
                saved.save(self.weights(record))
        elif not place or self.keep >= KEEP_ALL:
            raise self._full(needed)
        return str(self.logits(record).parent.relative_to(self.folder))

    def on_trial_end(self, record: TrialRecord) -> None:
        """Rank an ended trial, and remove the files that no trial needs any more."""
        self._told += [record] if record.hyperband_state else []
        self._drop(
            {record.number, *(other.number for other in self._told)}
            - promotable(self._told, self._rank)
        )
        if record.state != "complete":
            return
        if self.logits(record).exists():
            insort(self._best_first, record, key=self._rank)
            best = {other.number for other in self._best_first[: self.keep_weights]}
            # the record itself too: better trials may have ended after its weights were saved
            for other in (record, *self._best_first[self.keep_weights :][:1]):
                if other.number not in best:
                    self.weights(other).unlink(missing_ok=True)
        self._shrink(self.keep)

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            (self.folder / "checkpoints" / f"{number}.npz").unlink(missing_ok=True)

    def _shrink(self, length: int) -> None:
        for record in self._best_first[length:]:
            self._remove(record)
        del self._best_first[length:]

    def _remove(self, record: TrialRecord) -> None:
        for name in ("logits.npz", "weights.npz", *PICTURES):
            self.logits(record).with_name(name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder may hold files of the user
            self.logits(record).parent.rmdir()

    def _room(self, needed: int, worse_than: TrialRecord | None, *, logits: bool = True) -> bool:
        """Make room for ``needed`` bytes; return whether they fit.

        The weights of the worst trials go first, then their ``logits``, but only those of trials
        worse than ``worse_than``.
        """
        if self.limit is None or self._fits(needed):
            return True
        if self.keep >= KEEP_ALL:
            return False
        # a trial that continues one of these must then train from the start
        self._drop(record.number for record in self._told)
        bound = None if worse_than is None else self._rank(worse_than)[0]
        worse = [
            record
            for record in reversed(self._best_first[1:])
            if bound is None or self._rank(record)[0] > bound
        ]
        for record in worse:
            if self._fits(needed):
                return True
            self.weights(record).unlink(missing_ok=True)
        for _ in worse if logits else ():
            if self._fits(needed):
                return True
            self._shrink(len(self._best_first) - 1)
        return self._fits(needed)

    def _fits(self, needed: int) -> bool:
        return self.limit is None or folder_bytes(self.folder) + needed + JOURNAL <= self.limit

    def _full(self, needed: int) -> StudyError:
        total = folder_bytes(self.folder) + needed + JOURNAL
        return StudyError(
            f"sweep.budget.bytes={self.limit} are used up, and what may be removed was: the next "
            f"files need {total} in all. "
            f"Nothing is lost; the same command goes on with sweep.budget.bytes={total * 3 // 2}"
        )

    def _clear(self, numbers: set[int]) -> None:
        """Remove what a killed process left: partial files, and files that no trial needs.

        Args:
            numbers: The trials whose checkpoints no trial needs.
        """
        for path in self.folder.rglob("*.partial"):
            path.unlink()
        for path in self.folder.glob("checkpoints/*.npz"):
            if path.stem.isdecimal() and int(path.stem) in numbers:
                path.unlink()
        best = [self.weights(record) for record in self._best_first[: self.keep_weights]]
        for path in self.folder.glob("trials/*/weights.npz"):
            if path not in best:
                path.unlink()


def network_path(folder: Path, number: int) -> Path:
    """Return the path of a trial's weights in a study that keeps those of every trial."""
    return folder / "trials" / str(number) / "network.npz"


def folder_bytes(folder: Path) -> int:
    """Return the bytes of a study's folder, without the report and its pictures.

    Those can be written again at any time.
    """
    total = 0
    for path in folder.rglob("*"):
        if path.name in ("report.html", *PICTURES[2:]):
            continue
        with contextlib.suppress(FileNotFoundError):  # MLflow's cursor may be replaced meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total
