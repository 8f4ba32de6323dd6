"""How far a study is, read beside whoever runs it: one screen, or one line a study."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowersweep.study.journal import Event, lock_holder, read_events
from flowersweep.study.objectives import study_objectives
from flowersweep.study.records import Record, best_record, fold_records, meant

STATES = ("complete", "pruned", "failed", "running", "outside")


@dataclass(frozen=True)
class Status:
    """What can be said of a study at this moment."""

    name: str
    objective: str
    records: list[Record]
    best: Record | None
    wanted: int  # trials that the newest command asked for, as far as it said
    rate: float | None  # trials a minute since that command; None before one has ended
    newest: float  # when the last event was, seconds since 1970
    holder: str | None  # the process that runs it now

    @property
    def counts(self) -> str:
        """The trials by how they ended; those in flight are called interrupted if nobody runs the study."""
        states = Counter(record.state for record in self.records)
        names = {"running": "running" if self.holder else "interrupted"}
        return ", ".join(f"{states[state]} {names.get(state, state)}" for state in STATES if states[state]) or "no trial yet"

    @property
    def left(self) -> float | None:
        """Minutes until the wanted trials have ended, at the rate so far."""
        ended = sum(record.tell is not None for record in self.records)
        return max(self.wanted - ended, 0) / self.rate if self.rate and self.holder else None


def status(folder: Path) -> Status:
    """Read the study in ``folder``; its journal may be empty yet, or end in a torn line."""
    events, _ = read_events(folder / "journal.jsonl")
    records = fold_records(events)
    names = study_objectives(meant(events)) if events else [""]
    newest = float(events[-1]["time"]) if events else 0.0
    best = best_record(records, *names)
    return Status(folder.name, names[0], records, best, wanted(events), _rate(events), newest, lock_holder(folder))


def wanted(events: Iterable[Event]) -> int:
    """Return how many trials the newest command asked for, as far as it said."""
    number = 0
    for event in events:
        if event["event"] == "study":
            number = int(event.get("config", {}).get("sweep", {}).get("n_trials", 0))
        elif event["event"] == "resume" and (found := re.search(r"sweep\.n_trials=(\d+)", event.get("command", ""))):
            number = int(found[1])
    return number


def _rate(events: Sequence[Event]) -> float | None:
    """Trials a minute since the newest command's first trial, which may have had to wait for features."""
    begun = max((n for n, event in enumerate(events) if event["event"] in ("study", "resume")), default=0)
    session = [event for event in events[begun + 1 :] if event["event"] in ("ask", "report", "tell")]
    ends = [event["time"] for event in session if event["event"] == "tell"]
    return 60 * len(ends) / (ends[-1] - session[0]["time"]) if ends and ends[-1] > session[0]["time"] else None


def screen(found: Status) -> str:
    """Return what is said of one study."""
    now = f"run by {found.holder}" if found.holder else f"nobody runs it; last event {_ago(time.time() - found.newest)}"
    lines = [f'study "{found.name}": {now}', f"trials:     {found.counts}; {found.wanted} are wanted"]
    if found.best is not None:
        lines.append(f"best:       trial {found.best.number}, {found.objective} {found.best.value:.4f}, {_params(found.best)}")
    if found.rate:
        lines.append(f"rate:       {found.rate:.3g} trials a minute" + (f", about {_span(found.left)} left" if found.left else ""))
    open_ = "in flight:  " if found.holder else "to go on:   "
    lines += [f"{open_}trial {r.number}{_epoch(r)}, {_params(r)}" for r in found.records if r.tell is None][:8]
    failed = [r for r in found.records if r.tell and r.state == "failed"]
    lines += [f"failed:     trial {r.number}: {r.tell['reason']}" for r in failed[-3:] if r.tell]
    return "\n".join(lines)


def line(found: Status) -> str:
    """Return what is said of one study among others."""
    told = f"best {found.best.value:.4f} (trial {found.best.number})" if found.best else "nothing complete"
    left = f", {_span(found.left)} left" if found.left else ""
    now = f"running{left}" if found.holder else _ago(time.time() - found.newest)
    return f"{found.name:24} {found.counts:36} {told:26} {now}"


def _params(record: Record) -> str:
    return " ".join(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in record.params.items())


def _epoch(record: Record) -> str:
    return f" at epoch {max(record.reports)}" if record.reports else ""


def _ago(seconds: float) -> str:
    return f"{_span(seconds / 60)} ago"


def _span(minutes: float | None) -> str:
    """Write a length of time in the largest unit that fits."""
    minutes = minutes or 0.0
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"
