"""Events of a study: one frozen dataclass for each kind of line in the journal.

The journal is the truth of a study, so its lines have types and a format number. ``to_json`` and
``from_json`` are inverse. A field that is ``None`` is left out of the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from flowersweep.errors import StudyError

FORMAT = 1  # of the journal; the first event carries it
NEWER = "Use `pip install -U flowersweep`"
Metrics = dict[str, float]


@dataclass(frozen=True)
class Epoch:
    """The metrics after one epoch."""

    epoch: int  # epochs done, counted from 1
    time: float  # when it ended, seconds since 1970
    metrics: Metrics


@dataclass(frozen=True)
class ImportedTrial:
    """A trial of another study that this study's sampler learns from."""

    source: str  # STUDY:NUMBER
    params: dict[str, Any]  # in the space of this study
    state: str  # complete or pruned
    value: float  # of this study's objective
    metrics: Metrics
    reports: dict[str, float]  # epochs done -> objective


@dataclass(frozen=True, kw_only=True)
class Event:
    """The fields of every event."""

    time: float = 0.0  # seconds since 1970
    elapsed: float = 0.0  # seconds that this command has run; a suspended machine does not count


@dataclass(frozen=True, kw_only=True)
class StudyStarted(Event):
    """The first event: what the study is."""

    study: str
    experiment: str  # the MLflow experiment of its runs
    seed: int
    config: dict[str, Any]
    overrides: list[str]  # the words of its command
    objective: str
    direction: Literal["minimize", "maximize"]
    space: dict[str, Any]  # parameter -> {path, values (a distribution as JSON), when}
    settings: dict[str, Any]  # dotted path -> value of what must stay the same on resume
    provenance: dict[str, Any] = field(default_factory=dict)
    imported: list[ImportedTrial] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)  # the user's, of every run
    run_name: str | None = None  # a name, or a template such as "{study}-{trial:04d}"
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class StudyResumed(Event):
    """A later command continues the study."""

    command: str
    n_trials: int
    code: str | None = None  # digest of the code that trains from here on
    tags: dict[str, str] | None = None  # of what comes from here on; None: as before
    run_name: str | None = None  # likewise


@dataclass(frozen=True, kw_only=True)
class StudyStopped(Event):
    """A command ended without a crash."""

    state: str  # finished or interrupted
    best: int | None = None  # the best trial so far


@dataclass(frozen=True, kw_only=True)
class TrialAsked(Event):
    """The sampler suggested a trial."""

    trial: int
    params: dict[str, Any]
    settings: dict[str, Any]  # where its configuration differs from the study's, by dotted path
    identity: str | None = None  # hash of the training; equal trainings have equal hashes
    repeats: int | None = None  # the first trial with this identity
    seed: int | None = None  # the seed of a repeated training; None: the study's
    # bracket and round of a KerasTuner Hyperband trial
    hyperband: dict[str, Any] = field(default_factory=dict)
    # Optuna's system attributes, if other trials ran meanwhile
    attributes: dict[str, Any] | None = None
    logical_time: int | None = None  # in epochs, where answers are ordered by it


@dataclass(frozen=True, kw_only=True)
class EpochsReported(Event):
    """A segment of a trial was trained."""

    trial: int
    epochs: list[Epoch]
    value: float  # of the objective after the last epoch
    attributes: dict[str, Any] | None = None
    pruned: bool | None = None  # the pruner's decision, if other trials ran meanwhile
    worker: int | None = None  # counted from 1; None: the coordinator's process
    logical_time: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrialEnded(Event):
    """A trial is complete, pruned or failed."""

    trial: int
    state: str  # complete, pruned or failed
    value: float | None = None
    metrics: Metrics = field(default_factory=dict)
    reason: str | None = None  # why it failed
    folder: str | None = None  # where its files are, relative to the study's folder
    attributes: dict[str, Any] = field(default_factory=dict)  # Optuna's system attributes
    logical_time: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrialRestarted(Event):
    """A trial lost its worker, and begins again at its checkpoint, unless it has lost too many."""

    trial: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ProgramsCompiled(Event):
    """XLA programs were compiled while a trial ran."""

    trial: int
    programs: int


@dataclass(frozen=True, kw_only=True)
class MachineSampled(Event):
    """Metrics of the machine since the last sample."""

    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class ForecastMade(Event):
    """How long the study is expected to take, all commands together."""

    minutes: float
    trials: int


@dataclass(frozen=True, kw_only=True)
class ModelLogged(Event):
    """The best model was logged to MLflow."""

    trial: int
    run: str
    store: str


KINDS: dict[str, type[Event]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(): kind
    for kind in (
        StudyStarted,
        StudyResumed,
        StudyStopped,
        TrialAsked,
        EpochsReported,
        TrialEnded,
        ProgramsCompiled,
        MachineSampled,
        ForecastMade,
        ModelLogged,
    )
} | {"worker_lost": TrialRestarted}
NAMES = {kind: name for name, kind in KINDS.items()}
FIELDS = {kind: tuple(entry.name for entry in fields(kind)) for kind in NAMES}

# the fields that hold a list of dataclasses
LISTS: dict[tuple[type[Event], str], type[Epoch | ImportedTrial]] = {
    (EpochsReported, "epochs"): Epoch,
    (StudyStarted, "imported"): ImportedTrial,
}


def to_json(event: Event) -> dict[str, Any]:
    """Return an event as plain data, with its kind first."""
    kind = type(event)
    line: dict[str, Any] = {"event": NAMES[kind]}
    for name in FIELDS[kind]:
        value = getattr(event, name)
        if value is not None:
            line[name] = [vars(item) for item in value] if (kind, name) in LISTS else value
    return line


def from_json(line: Mapping[str, Any]) -> Event:
    """Return the event of a line.

    Raises:
        StudyError: The kind of the line or one of its fields is unknown.
    """
    content = dict(line)
    kind = KINDS.get(str(content.pop("event", None)))
    if kind is None:
        raise StudyError(
            f"the journal has an event {line.get('event')!r} that this version does not know. "
            f"{NEWER}"
        )
    try:
        for (owner, name), item in LISTS.items():
            if owner is kind:
                content[name] = [item(**entry) for entry in content.get(name, ())]
        return kind(**content)
    except TypeError as error:
        raise StudyError(
            f"the event {line['event']!r} of the journal is not of this version: {error}. {NEWER}"
        ) from error


def require_readable(first: Mapping[str, Any]) -> None:
    """Raise StudyError unless this version can read a journal that begins with this line."""
    number = first.get("format")
    if number is None:
        raise StudyError(
            "the journal was written by a flowersweep before 0.2, which this version cannot read. "
            "Start a new study (study=NAME), or finish this one with `pip install "
            "flowersweep==0.1.0`"
        )
    if number > FORMAT:
        raise StudyError(
            f"the journal has format {number}, and this version reads up to {FORMAT}. {NEWER}"
        )
