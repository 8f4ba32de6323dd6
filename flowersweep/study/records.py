"""What a journal says of each trial, and the Optuna study that is rebuilt from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowersweep.study.journal import Event
from flowersweep.study.objectives import objective_values, rank_key

HyperbandState = dict[str, Any]  # bracket and round of a trial of KerasTuner's Hyperband


@dataclass
class Record:
    """One trial as the journal has it."""

    number: int
    params: dict[str, Any]
    identity: str | None = None  # what it trains, apart from names and what does not count
    repeats: int | None = None  # the first trial that trained the same
    seed: int | None = None  # of its own, if it trains that again; a trial that repeats and has none takes the earlier result
    hyperband_state: HyperbandState = field(default_factory=dict)  # by an oracle that has rounds
    reports: dict[int, float] = field(default_factory=dict)  # epochs done -> objective
    times: list[float] = field(default_factory=list)  # when it was asked for, and when each epoch ended: seconds since 1970
    metrics: dict[str, float] = field(default_factory=dict)  # the newest there are
    tell: Event | None = None
    notes: dict[str, Any] | None = None  # what samplers and pruners had noted on it, if others ran beside it
    pruned: bool = False  # whether the pruner has ended it, and it is to be told
    progress: tuple[int, int] = (0, 0)  # while it runs here: epochs done, and steps of the next

    @property
    def state(self) -> str:
        return str(self.tell["state"]) if self.tell else "running"

    @property
    def value(self) -> float | None:
        return self.tell["value"] if self.tell else None

    @property
    def continues(self) -> int | None:
        """The trial whose training this one takes further."""
        return self.hyperband_state.get("continues")

    @property
    def reused(self) -> int | None:
        """The trial whose result this one takes."""
        return self.repeats if self.seed is None else None


def fold_records(events: Sequence[Event]) -> list[Record]:
    """Fold the events of a journal into its trials, by number."""
    records: list[Record] = []
    for event in events:
        match event["event"]:
            case "ask":
                records.append(record_from_ask(event, records))
            case "report":
                record, newest = records[event["trial"]], event["epochs"][-1]
                record.reports[newest["epoch"]] = event["value"]
                record.times += [epoch["time"] for epoch in event["epochs"] if "time" in epoch]
                record.metrics = newest.get("metrics", {})
                record.notes = event.get("attributes", record.notes)
                record.pruned = event.get("pruned", False)
            case "tell":
                record = records[event["trial"]]
                if record.reused is not None:
                    record.reports = dict(records[record.reused].reports)
                record.tell, record.metrics = event, event.get("metrics") or record.metrics
    return records


def count_worker_failures(events: Iterable[Event]) -> Counter[int]:
    """Count the workers that were lost with each trial since it last reported: then it had gone on, whatever took them."""
    found = Counter[int]()
    for event in events:
        if event["event"] == "lost":
            found[event["trial"]] += 1
        elif event["event"] == "report":
            found.pop(event["trial"], None)
    return found


def record_from_ask(ask: Event, trials: Sequence[Record] = ()) -> Record:
    """Return the trial that an event of asking begins; one that takes another of ``trials`` further has its reports already."""
    noted = ask.get("noted", {})
    reports = dict(trials[noted["continues"]].reports) if "continues" in noted else {}
    meaning = (ask.get("identity"), ask.get("repeats"), ask.get("seed"))
    times, notes = [ask.get("time", 0.0)], ask.get("attributes")
    return Record(ask["trial"], ask["params"], *meaning, hyperband_state=noted, reports=reports, times=times, notes=notes)


def best_record(trials: Iterable[Record], *names: str) -> Record | None:
    """Return the complete trial that is best in the first objective, the others deciding between equals; None if none is complete."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return min(complete, key=lambda trial: rank_key(objective_values(trial.value or 0.0, trial.metrics, names), names), default=None)
