"""What the runs of a study must be told, read off its journal: no MLflow here, only what it will hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flowersweep.study.journal import Event
from flowersweep.tracking.masking import MASK, masked_text, secret
from flowersweep.tracking.throughput import images_per_second, settings_of_one

# A pruned trial was stopped early and its last metrics are no result, so it must not read FINISHED beside those that ended.
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "finished": "FINISHED", "interrupted": "KILLED"}
LONGEST_TAG = 5000


@dataclass(frozen=True)
class Point:
    """One value of one metric; everything in it comes from the journal, so that it can be sent twice."""

    key: str
    value: float
    milliseconds: int
    step: int


@dataclass
class RunUpdate:
    """What one run must still be told; ``trial`` is None for the run of the study itself."""

    trial: int | None
    name: str
    started: int
    identity: dict[str, str]  # tags it is made with, and found again by
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    status: str | None = None
    ended: int | None = None
    files: Event | None = None  # the event whose artifacts are due: "study" or "tell"
    begins: bool = False


class MlflowProjection:
    """The events of one study so far, as far as later events refer to them."""

    def __init__(self) -> None:
        self.study: Event = {}
        self.asks: dict[int, Event] = {}
        self.tells: dict[int, Event] = {}
        self._steps: dict[int, int] = {}
        self._times: dict[int, dict[int, float]] = {}  # of trials that run: epoch -> when it ended
        self._samples = 0
        self._code: str | None = None  # a digest of what trains now
        self._running = False  # no stop has been told since the last start

    def add(self, events: Iterable[Event]) -> list[RunUpdate]:
        """Take in events and return what they change, the study's run first; none of it for events of unknown kind."""
        changes: dict[int | None, RunUpdate] = {}
        for event in events:
            take = getattr(self, f"_{event['event']}", None)
            if take is not None:
                take(event, changes)
            self._running = event["event"] != "stop" and (self._running or event["event"] in ("study", "resume"))
        return sorted(changes.values(), key=lambda change: -1 if change.trial is None else change.trial)

    def killed(self, ended: float) -> list[RunUpdate]:
        """Return what the runs must be told of a study whose process was killed, at ``ended`` seconds since 1970; nothing if it was not.

        A study that ended in order has said so. One that goes on says that too, and its runs are running again.
        """
        changes: dict[int | None, RunUpdate] = {}
        if self._running:
            self._stop({"state": "interrupted", "time": ended}, changes)
        return [*changes.values()]

    def identity(self) -> dict[str, str]:
        """Return the tags by which the runs of this study are told from those of an earlier one of the same name."""
        return {"flowersweep.study": self.study["study"], "flowersweep.begun": str(_milliseconds(self.study))}

    def _study(self, event: Event, changes: dict[int | None, RunUpdate]) -> None:
        self.study, self._code = event, event.get("provenance", {}).get("code")
        change = self._change(None, changes)
        change.begins, change.files = True, event
        change.tags |= {"flowersweep.state": "running"}

    def _ask(self, event: Event, changes: dict[int | None, RunUpdate]) -> None:
        self.asks[event["trial"]] = event
        change = self._change(event["trial"], changes)
        change.begins = True
        params = event["params"] if self.study.get("space") else settings_of_one(self.study)
        change.params |= {valid(name): _shown(name, value) for name, value in params.items()}
        change.tags |= {"flowersweep.state": "running"}
        change.tags |= {"flowersweep.seed": str(event["seed"])} if event.get("seed") is not None else {}
        change.tags |= {"flowersweep.code": self._code} if self._code else {}

    def _report(self, event: Event, changes: dict[int | None, RunUpdate]) -> None:
        change = self._change(event["trial"], changes)
        for epoch in event["epochs"]:
            change.points += _points(epoch["metrics"], _milliseconds(epoch), epoch["epoch"])
            self._steps[event["trial"]] = epoch["epoch"]
            self._times.setdefault(event["trial"], {})[epoch["epoch"]] = epoch["time"]

    def _tell(self, event: Event, changes: dict[int | None, RunUpdate]) -> None:
        self.tells[event["trial"]] = event
        change = self._change(event["trial"], changes)
        rate = images_per_second(self.study, self.asks[event["trial"]], self._times.pop(event["trial"], {}))
        metrics = event["metrics"] | ({"images_per_second": rate} if rate else {})
        change.points += _points(metrics, _milliseconds(event), self._steps.get(event["trial"], 0))
        change.status, change.ended, change.files = STATUS[event["state"]], _milliseconds(event), event
        change.tags |= {"flowersweep.state": event["state"]}
        if event.get("reason"):
            change.tags["flowersweep.reason"] = masked_text(event["reason"])[:LONGEST_TAG]

    def _compiled(self, event: Event, changes: dict[int | None, RunUpdate]) -> None:
        self._change(event["trial"], changes).points += _points({"compiles": event["programs"]}, _milliseconds(event), 0)

    def _machine(self, event: Event, changes: dict[int | None, RunUpdate]) -> None:
        metrics = {f"system/{name}": value for name, value in event["metrics"].items()}  # MLflow's page has a tab for this prefix
        self._change(None, changes).points += _points(metrics, _milliseconds(event), self._samples)
        self._samples += 1

    def _stop(self, event: Event, changes: dict[int | None, RunUpdate]) -> None:
        status, ended = STATUS[event["state"]], _milliseconds(event)
        for trial in [None, *(self.asks.keys() - self.tells.keys())]:
            change = self._change(trial, changes)
            change.status, change.ended = status if trial is None else "KILLED", ended
            change.tags["flowersweep.state"] = event["state"] if trial is None else "interrupted"
        if event.get("best") in self.tells:
            self._copy_best(event["best"], ended, self._change(None, changes))

    def _resume(self, event: Event, changes: dict[int | None, RunUpdate]) -> None:
        self._code = event.get("code", self._code)
        for trial in [None, *(self.asks.keys() - self.tells.keys())]:
            change = self._change(trial, changes)
            change.status, change.ended = "RUNNING", None
            change.tags["flowersweep.state"] = "running"

    def _copy_best(self, best: int, now: int, change: RunUpdate) -> None:
        # MLflow's params can never change, but a resumed study may find a better trial: the best ones are tags.
        params = self.asks[best]["params"] if best in self.asks else {}
        change.tags |= {f"flowersweep.best.{valid(name)}": _shown(name, value) for name, value in params.items()}
        change.tags["flowersweep.best_trial"] = str(best)
        change.points += _points(self.tells[best]["metrics"], now, 0)

    def _change(self, trial: int | None, changes: dict[int | None, RunUpdate]) -> RunUpdate:
        if trial not in changes:
            study = self.study["study"]
            began = self.study if trial is None else self.asks[trial]
            name = study if trial is None else f"{study}-{trial:04d}"
            kind = {"kind": "study"} if trial is None else {"kind": "trial", "trial": str(trial)}
            tags = self.identity() | {f"flowersweep.{key}": value for key, value in kind.items()}
            changes[trial] = RunUpdate(trial, name, _milliseconds(began), tags)
        return changes[trial]


def valid(key: str) -> str:
    """Return a key that MLflow accepts, in which all but letters, digits and ``_-. /:`` become ``_``."""
    return re.sub(r"[^\w.\- /:]", "_", key)[:250]


def _shown(name: str, value: Any) -> str:
    return MASK if secret(name) else masked_text(str(value))[:LONGEST_TAG]


def _points(metrics: dict[str, float], now: int, step: int) -> list[Point]:
    return [Point(valid(key), value, now, step) for key, value in metrics.items() if math.isfinite(value)]


def _milliseconds(event: Event) -> int:
    return round(float(event["time"]) * 1000)
