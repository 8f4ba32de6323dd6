"""What a journal says of each trial, and the Optuna study that is rebuilt from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowersweep.study.journal import Event
from flowersweep.study.objectives import objective_values, rank_key

HyperbandState = dict[str, Any]  # bracket and round of a trial of KerasTuner's Hyperband
ACCEPTED = ("space", "settings", "objective", "direction", "config", "overrides")  # of what a study is, may be another later


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
    outside: bool = False  # it is none of the trials that the study means since other settings were accepted

    @property
    def state(self) -> str:
        ended = str(self.tell["state"]) if self.tell else "running"
        return "outside" if self.outside and ended in ("complete", "pruned") else ended

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


def meant(events: Sequence[Event]) -> Event:
    """Return what a study is: its first event, with what was accepted since."""
    accepted: Event = next((event for event in reversed(events) if event["event"] == "accept"), {})
    return {**events[0], **{key: accepted[key] for key in ACCEPTED if key in accepted}}


def fold_records(events: Sequence[Event]) -> list[Record]:
    """Fold the events of a journal into its trials, by number; values are those of the newest objective that was accepted, if any was."""
    found: list[Record] = []
    objective = meant(events)["objective"] if any(event["event"] == "accept" for event in events) else None
    for event in events:
        match event["event"]:
            case "ask":
                found.append(record_from_ask(event, found))
            case "report":
                newest = event["epochs"][-1]
                found[event["trial"]].reports[newest["epoch"]] = newest.get("metrics", {}).get(objective, event["value"])
                found[event["trial"]].times += [epoch["time"] for epoch in event["epochs"] if "time" in epoch]
                found[event["trial"]].metrics = newest.get("metrics", {})
                found[event["trial"]].notes = event.get("attributes", found[event["trial"]].notes)
                found[event["trial"]].pruned = event.get("pruned", False)
            case "tell":
                if (first := found[event["trial"]].reused) is not None:
                    found[event["trial"]].reports = dict(found[first].reports)
                found[event["trial"]].tell = event if objective is None else _reread(event, objective, found[event["trial"]])
                found[event["trial"]].metrics = event.get("metrics") or found[event["trial"]].metrics
            case "accept":
                for record in found:
                    record.outside, record.params = record.number in event["outside"], event["params"][record.number]
                    if event["anew"] and record.tell:
                        record.tell = {**record.tell, "attributes": {}}
    return found


def _reread(tell: Event, objective: str, record: Record) -> Event:
    """Return how a trial ended, with its value of another objective than it may have been told with."""
    if tell["value"] is None:
        return tell
    last = [*record.reports.values()][-1:] or [tell["value"]]
    return {**tell, "value": tell["metrics"].get(objective, last[0])}


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


def ranked_records(trials: Iterable[Record], *names: str) -> list[Record]:
    """Return the complete trials, the best first: by the first objective, the others deciding between equals, then the earlier."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return sorted(complete, key=lambda trial: rank_key(objective_values(trial.value or 0.0, trial.metrics, names), names))


def best_record(trials: Iterable[Record], *names: str) -> Record | None:
    """Return the first of ``ranked_records``; None if no trial is complete."""
    return next(iter(ranked_records(trials, *names)), None)
