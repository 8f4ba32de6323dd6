"""How a study and its machine are at this moment, as boxes of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from flowersweep.report.status import Status, status
from flowersweep.study.journal import lock_holder
from flowersweep.study.requests import waiting_requests
from flowersweep.util.text import duration

Boxes = dict[str, tuple[str, str]]


def state_of(folder: Path) -> dict[str, Any]:
    """Return a version, which changes with the journal, and the boxes of what is going on now."""
    now = status(folder)
    waiting = sum(1 for _ in waiting_requests(folder))
    boxes = now_of(now, waiting)
    return {"version": version_of(folder), "now": [[name, *box] for name, box in boxes.items()]}


def version_of(folder: Path) -> str:
    """Return what changes with the journal, and with whoever runs the study."""
    return f"{(folder / 'journal.jsonl').stat().st_size}-{lock_holder(folder)}"


def now_of(now: Status, waiting: int = 0) -> Boxes:
    """Return the boxes of a study that runs, or of one that does not."""
    boxes: Boxes = {"Study": ("running" if now.holder else "not running", now.holder or "")}
    ended = sum(record.ended is not None for record in now.records)
    boxes["Ended"] = (f"{ended} of {now.wanted or ended}", now.counts)
    if now.holder:
        left = "unknown" if now.left is None else duration(60 * now.left)
        rate = f"{now.rate:.3g} trials a minute" if now.rate else "no trial has ended yet"
        boxes["Time left"] = (left, rate)
        open_ = [record for record in now.records if record.ended is None]
        shown = ", ".join(
            f"trial {r.number}, epoch {max(r.curve, default=0)}"
            + (f", worker {r.worker}" if r.worker else "")
            for r in open_[:8]
        )
        boxes["In flight"] = (str(len(open_)), shown)
    if waiting:
        boxes["Requests"] = (str(waiting), "taken after the next report of a trial")
    return boxes | machine()


def machine() -> Boxes:
    """Return the load of this machine."""
    memory = psutil.virtual_memory()
    load, cores = psutil.getloadavg()[0], psutil.cpu_count() or 1
    return {
        "Processor": (f"{psutil.cpu_percent():.0f} %", f"load {load:.1f} on {cores} cores"),
        "Memory": (f"{memory.percent:.0f} %", f"of {memory.total / 1e9:.0f} GB"),
    }
