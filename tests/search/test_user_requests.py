"""A user stops trials, stops the study or adds a point while it runs; a kill at any event changes
nothing of what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowersweep.config.compose import compose, parse
from flowersweep.config.schema import Config
from flowersweep.execution.in_process import InProcess
from flowersweep.execution.protocol import Evaluation
from flowersweep.search.loop import TrialLoop
from flowersweep.search.state import Study
from flowersweep.search.user_requests import STOPPED
from flowersweep.search.work import TrainTrial
from flowersweep.space.space import Space, build_space
from flowersweep.study.events import Epoch, Event, StopRequested, TrialAsked, TrialEnded
from flowersweep.study.journal import Journal
from flowersweep.study.records import StudyRecord, read_study
from flowersweep.study.requests import Request, waiting_requests, write_request
from tests.events import append

WORDS = ["+sweep=smoothing", "sweep.n_trials=5", "pruner=none", "study=asked", "train.epochs=4"]
ADDED = {
    "loss": "smoothed_cross_entropy",
    "label_smoothing": 0.123,
    "learning_rate": 0.01,
    "warmup": 0.1,
}


@dataclass
class Checkpoint:
    """A training that is only a count of epochs."""

    epoch: int = 0
    steps, nbytes = 0, 8

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(self.epoch))

    def detached(self) -> Checkpoint:
        return self


class Trainer:
    """A trainer whose numbers follow from the parameters alone."""

    hosts = 1

    def identity(self, config: Config, *, data_varies: bool) -> str:
        return str(config.loss)

    def prepare(self, spec: Any) -> None:
        pass

    def load(self, spec: Any, source: Path) -> Checkpoint:
        return Checkpoint(int(source.read_text()) if source.exists() else 0)

    def train(self, spec: Any, checkpoint: Any, until: int, on_checkpoint: Any) -> Any:
        on_checkpoint(Checkpoint(checkpoint.epoch))
        objective, value = spec.config.sweep.objective, spec.config.loss["label_smoothing"]
        epochs = range(checkpoint.epoch + 1, until + 1)
        return Checkpoint(until), [Epoch(n, 0.0, {objective: value + 1 / n}) for n in epochs]

    def evaluate(self, spec: Any, checkpoint: Any) -> Evaluation:
        value = spec.config.loss["label_smoothing"]
        return Evaluation({spec.config.sweep.objective: value}, {}, checkpoint)

    def draw_figures(self, spec: Any, *, best: bool) -> dict[str, bytes]:
        return {}


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def searched() -> tuple[Config, Space]:
    config = compose(WORDS)
    return config, build_space(config, WORDS, parse(WORDS))


def run(folder: Path, searched: tuple[Config, Space], asks: Any, kill: int = 10**9) -> TrialLoop:
    """Run the study until it is killed after so many events; ``asks`` sees each event first."""
    config, space = searched
    with Journal(folder / "journal.jsonl") as journal:
        if not journal.events:
            facts = {"objective": config.sweep.objective, "space": space.describe()}
            append(journal, "study_started", study="asked", **facts)
        trainer: Any = Trainer()
        study = Study(config, space, journal, trainer, executor=InProcess(trainer))
        write = study.write

        def watched(event: Event) -> None:
            write(event)
            asks(study, event)
            if len(journal.events) >= kill:
                raise Killed

        study.write = watched  # type: ignore[method-assign]
        loop = TrialLoop(study, TrainTrial())
        loop.run()
        return loop


def asks_both(study: Study, event: Event) -> None:
    """Add a point while trial 2 runs, and stop trials 1 and 3 after their first report."""
    record = study.record
    if isinstance(event, TrialAsked) and event.trial == 2 and not record.added:
        write_request(study.folder, Request("add_trial", params=ADDED))
    if isinstance(event, TrialAsked) and event.trial in (1, 3):
        write_request(study.folder, Request("stop_trial", trial=event.trial))


def outcome(record: StudyRecord) -> list[Any]:
    return [
        (r.params, r.state, r.value, r.reports, r.ended and r.ended.reason) for r in record.trials
    ]


def test_a_stopped_trial_ends_after_its_next_report_and_an_added_point_is_next(tmp_path, searched):
    run(tmp_path, searched, asks_both)
    trials = read_study(tmp_path).trials
    states = ["complete", "pruned", "complete", "pruned", "complete"]
    assert [trial.state for trial in trials] == states
    assert [max(trial.reports) for trial in trials] == [4, 2, 4, 2, 4]
    assert trials[1].ended.reason == "stopped by hand"
    assert trials[3].params == ADDED
    assert list(waiting_requests(tmp_path)) == []


@pytest.mark.slow
def test_killed_after_any_event_and_resumed_the_same_comes_out(tmp_path, searched):
    run(tmp_path / "whole", searched, asks_both)
    whole = read_study(tmp_path / "whole")
    events = len((tmp_path / "whole" / "journal.jsonl").read_text().splitlines())
    assert events > 20
    for kill in range(2, events + 1):
        folder = tmp_path / str(kill)
        with pytest.raises(Killed):
            run(folder, searched, asks_both, kill)
        run(folder, searched, asks_both)
        assert outcome(read_study(folder)) == outcome(whole), kill


def test_a_study_stops_before_its_next_trial_and_the_next_command_goes_on(tmp_path, searched):
    def asks(study: Study, event: Event) -> None:
        if isinstance(event, TrialEnded) and event.trial == 1:
            write_request(study.folder, Request("stop_study"))

    assert run(tmp_path, searched, asks).stopped == STOPPED
    assert len(read_study(tmp_path).trials) == 2
    write_request(tmp_path, Request("stop_study"))  # too late: nobody runs it
    assert run(tmp_path, searched, lambda study, event: None).stopped is None
    assert [trial.state for trial in read_study(tmp_path).trials] == ["complete"] * 5


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (ADDED | {"label_smoothing": 7.0}, "label_smoothing is outside its range"),
        (ADDED | {"gamma": 1.0}, "gamma is not active"),
        (ADDED | {"epochs": 1}, "epochs is not searched"),
        ({}, "loss is missing"),
    ],
)
def test_a_point_that_is_none_is_journaled_as_refused(params, said, tmp_path, searched):
    write_request(tmp_path, Request("add_trial", params=params))
    run(tmp_path, searched, lambda study, event: None)
    record = read_study(tmp_path)
    assert said in next(iter(record.added.values())).refused
    assert len(record.trials) == 5


def test_damaged_requests_and_those_for_no_trial_are_dropped(tmp_path, searched):
    write_request(tmp_path, Request("stop_trial", trial=99))
    write_request(tmp_path, Request("nonsense"))
    (tmp_path / "requests" / "0.json").write_text("{")
    (tmp_path / "requests" / "1.json").write_text('{"kind": "stop_trial", "trial": "0"}')
    loop = run(tmp_path, searched, lambda study, event: None)
    assert list(waiting_requests(tmp_path)) == []
    assert not any(isinstance(event, StopRequested) for event in loop.study.journal.events)
