"""Events for tests: typed ones from few words, and the lines of a journal as plain data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flowersweep.study.events import Event, from_json
from flowersweep.study.journal import Journal
from flowersweep.study.records import StudyRecord

DEFAULTS: dict[str, dict[str, Any]] = {
    "study_started": {
        "study": "flowers",
        "experiment": "flowers",
        "seed": 0,
        "config": {},
        "overrides": [],
        "objective": "tune/nll",
        "direction": "minimize",
        "space": {},
        "settings": {},
    },
    "study_resumed": {"command": "", "n_trials": 0},
    "trial_asked": {"params": {}, "settings": {}},
}


def event(kind: str, **content: Any) -> Event:
    """Return an event of a kind; what a test does not care for has a default."""
    whole = {"event": kind, **DEFAULTS.get(kind, {}), **content}
    if "epochs" in whole:
        whole["epochs"] = [{"time": 0.0, "metrics": {}, **epoch} for epoch in whole["epochs"]]
    return from_json(whole)


def append(journal: Journal, kind: str, **content: Any) -> Event:
    """Journal an event of a kind."""
    return journal.append(event(kind, **content))


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the events of a journal, or of the journal in a study's folder, as plain data."""
    path = path / "journal.jsonl" if path.is_dir() else path
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in event.items() if k not in ("n", "crc")} for event in events]


def rewrite(path: Path, events: list[dict[str, Any]]) -> None:
    """Write a journal by hand, without checksums, as somebody else may."""
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def fold(entries: list[dict[str, Any]]) -> StudyRecord:
    """Return the state of a study after these events, given as plain data; the first may be left
    out.
    """
    started = [] if entries and entries[0]["event"] == "study_started" else [event("study_started")]
    return StudyRecord(
        [
            *started,
            *(
                event(entry["event"], **{k: v for k, v in entry.items() if k != "event"})
                for entry in entries
            ),
        ]
    )


def story(study: Path) -> list[dict[str, Any]]:
    """Return what happened to the trials of a study, without when and on which thread.

    Two runs of one study that tell the same story trained the same.
    """
    events = lines(study)
    for event in events:
        event.pop("worker", None)
        for entry in [event, *event.get("epochs", [])]:
            entry.pop("time")
        event.pop("elapsed")
    return [
        event
        for event in events
        if event["event"] in ("trial_asked", "epochs_reported", "trial_ended")
    ]
