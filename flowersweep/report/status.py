"""How far a study is, read while it may still run: one screen, or one line a study."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowersweep.errors import StudyError
from flowersweep.study.journal import lock_holder
from flowersweep.study.records import TrialRecord, read_study
from flowersweep.util.text import duration, number

STATES = ("complete", "pruned", "failed", "running")


@dataclass(frozen=True)
class Status:
    """What can be said of a study at this moment."""

    name: str
    objective: str
    records: list[TrialRecord]
    best: TrialRecord | None
    wanted: int  # trials that the newest command asked for, as far as it said
    rate: float | None  # trials a minute since that command; None before one has ended
    newest: float  # when the last event was, seconds since 1970; 0 before the first
    holder: str | None  # the process that runs it now

    @property
    def counts(self) -> str:
        """Return the trials by how they ended.

        Those in flight are called interrupted if nobody runs the study.
        """
        states = Counter(record.state for record in self.records)
        names = {"running": "running" if self.holder else "interrupted"}
        return (
            ", ".join(
                f"{states[state]} {names.get(state, state)}" for state in STATES if states[state]
            )
            or "no trial yet"
        )

    def __repr__(self) -> str:
        return screen(self)

    @property
    def left(self) -> float | None:
        """Minutes until the wanted trials have ended, at the rate so far."""
        ended = sum(record.ended is not None for record in self.records)
        return max(self.wanted - ended, 0) / self.rate if self.rate and self.holder else None


def status(folder: Path) -> Status:
    """Read the study in ``folder``; its journal may be empty yet, or end in a torn line."""
    study = read_study(folder)
    objective = study.started.objective if study else ""
    return Status(
        folder.name,
        objective,
        study.trials,
        study.best,
        study.n_trials,
        study.trials_per_minute,
        study.newest,
        lock_holder(folder),
    )


def as_dict(status: Status) -> dict[str, Any]:
    """Return what is said of a study as plain data, for programs."""
    states = Counter(record.state for record in status.records)
    best = status.best
    return {
        "study": status.name,
        "objective": status.objective,
        "trials": {state: states[state] for state in STATES},
        "wanted": status.wanted,
        "best": best and {"trial": best.number, "value": best.value, "params": best.params},
        "run_by": status.holder,
        "trials_per_minute": status.rate,
        "minutes_left": status.left,
        "newest_event": status.newest or None,  # seconds since 1970
    }


def screen(status: Status) -> str:
    """Return what is said of one study."""
    now = (
        f"run by {status.holder}"
        if status.holder
        else f"nobody runs it; {_newest(status, 'last event ')}"
    )
    wanted = f"; {status.wanted} are wanted" * (status.wanted > 0)
    lines = [f'study "{status.name}": {now}', f"trials:     {status.counts}{wanted}"]
    if status.best is not None:
        lines.append(
            f"best:       trial {status.best.number}, {status.objective} "
            f"{status.best.value:.4f}, {_params(status.best)}"
        )
    if status.rate:
        lines.append(
            f"rate:       {status.rate:.3g} trials a minute"
            + (f", about {duration(60 * status.left)} left" if status.left else "")
        )
    open_ = "in flight:  " if status.holder else "to go on:   "
    lines += [
        f"{open_}trial {r.number}{_epoch(r)}, {_params(r)}"
        for r in status.records
        if r.ended is None
    ][:8]
    failed = [r for r in status.records if r.ended and r.state == "failed"]
    lines += [f"failed:     trial {r.number}: {r.ended.reason}" for r in failed[-3:] if r.ended]
    return "\n".join(lines)


def line_of(folder: Path) -> str:
    """Return what is said of the study in ``folder`` among others: if it is damaged, that."""
    try:
        return line(status(folder))
    except StudyError as error:
        return f"{folder.name:24} {error}"


def line(status: Status) -> str:
    """Return what is said of one study among others."""
    score = (
        f"best {status.best.value:.4f} (trial {status.best.number})"
        if status.best
        else "nothing complete"
    )
    left = f", {duration(60 * status.left)} left" if status.left else ""
    now = f"running{left}" if status.holder else _newest(status)
    return f"{status.name:24} {status.counts:36} {score:26} {now}"


def _params(record: TrialRecord) -> str:
    return " ".join(f"{name}={number(value)}" for name, value in record.params.items())


def _epoch(record: TrialRecord) -> str:
    return f" at epoch {max(record.reports)}" if record.reports else ""


def _newest(status: Status, prefix: str = "") -> str:
    """Say how long ago the last event was; a clock that was set back says now."""
    if not status.newest:
        return "its journal is empty"
    return f"{prefix}{duration(max(time.time() - status.newest, 0))} ago"
