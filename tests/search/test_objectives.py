"""A study with several objectives: what is on its front, which trial is its best, and that a resume
changes neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowersweep.cli.sweep_result import trials_table
from flowersweep.config.compose import compose, parse
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError
from flowersweep.search import optuna_study
from flowersweep.search.samplers import factory
from flowersweep.space.space import Space, build_space
from flowersweep.study import records
from flowersweep.study.events import TrialEnded
from flowersweep.study.journal import Journal
from flowersweep.study.objectives import training_seconds
from flowersweep.study.records import TrialRecord
from flowersweep.workflows.sweep import run_sweep
from tests.conftest import TINY
from tests.events import fold, lines

BOTH = ("sweep.objectives=[tune/macro_f1,time]", "pruner=none")


@pytest.mark.parametrize(
    ("times", "head", "expected"),
    [
        ([0, 9, 11, 13], 0, 6),  # 9 s until the first epoch ended: compiled
        ([0, 2, 4, 104, 106], 0, 8),  # a pause
        ([0, 9, 10, 11, 40, 60, 80], 3, 3 + 60),  # a stage of its own
        ([0, 5], 0, 5),
        ([0], 0, 0),
    ],
)
def test_the_time_of_a_trial_is_that_of_its_epochs(
    times: list[float], head: int, expected: float
) -> None:
    assert training_seconds(times, head) == expected


def complete(number: int, f1: float, time: float) -> TrialRecord:
    ended = TrialEnded(trial=number, state="complete", value=f1, metrics={"time": time})
    return TrialRecord(number, {}, metrics={"time": time}, ended=ended)


def test_the_best_is_on_the_front_and_the_best_there_in_the_first_objective() -> None:
    trials = [
        complete(0, 0.5, 1.0),
        complete(1, 0.9, 8.0),
        complete(2, 0.9, 7.0),
        complete(3, 0.4, 2.0),
        complete(4, 0.9, 7.0),
    ]
    study = optuna_study.rebuild_study(trials, Space((), {}, (), frozenset()), compose(BOTH))
    assert {trial.number for trial in study.best_trials} == {0, 2, 4}
    best = records.best_record(trials, "tune/macro_f1", "time")
    assert best is not None
    assert best.number == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sweep.objectives=[tune/macro_f1]",), "two or more of"),
        (("sweep.objectives=[time,tune/macro_f1]",), "must not be the first"),
        (("sweep.objectives=[tune/macro_f1,holdout/macro_f1]",), "two or more of"),
        (("sweep.objectives=[tune/macro_f1,time]",), "pruner=none"),
        ((*BOTH, "sampler=cma_es"), "one objective"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], message: str) -> None:
    pytest.importorskip("cmaes")
    line = ("+sweep=smoothing", *words)
    with pytest.raises(ConfigError, match=message):
        built(compose(line), line)


def built(config: Config, line: tuple[str, ...]) -> None:
    factory.make_sampler(config, 0, build_space(config, line, parse(line)))
    factory.make_pruner(config)


@pytest.mark.parametrize("sampler", ["default", "gp"])
def test_rebuilding_a_study_of_several_objectives_changes_no_suggestion(sampler: str) -> None:
    pytest.importorskip("torch" if sampler == "gp" else "optuna")
    line = ("+sweep=smoothing", f"sampler={sampler}", *BOTH)
    config = compose(line)
    space = build_space(config, line, parse(line))

    def play(rebuild: bool) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        study = optuna_study.rebuild_study([], space, config)
        for number in range(20):
            study = (
                optuna_study.rebuild_study(fold(events).trials, space, config) if rebuild else study
            )
            trial, params = optuna_study.ask_trial(study, number, space=space, config=config)
            value, metrics = params["warmup"], {"time": params["learning_rate"]}
            study.tell(trial, [value, metrics["time"]])
            noted = optuna_study.optuna_attrs(study, trial)
            events.append({"event": "trial_asked", "trial": number, "params": params})
            events.append(
                {
                    "event": "trial_ended",
                    "trial": number,
                    "state": "complete",
                    "value": value,
                    "metrics": metrics,
                    "attributes": noted,
                }
            )
        return events

    assert play(rebuild=True) == play(rebuild=False)


def test_a_study_of_score_and_time_goes_on_and_marks_its_front(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("+sweep=quick", *BOTH, "sampler=random", "tracking.enabled=false", *TINY)
    write = Journal._write
    written = 0

    def dying(self: Journal, written_line: bytes) -> None:
        nonlocal written
        written += 1
        if written == 8:
            raise KeyboardInterrupt
        write(self, written_line)

    monkeypatch.setattr(Journal, "_write", dying)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(compose(line), line)
    monkeypatch.setattr(Journal, "_write", write)
    outcome = run_sweep(compose(line), line)
    events = lines(project / "mlruns" / "studies" / "quick" / "journal.jsonl")
    tells = [event for event in events if event["event"] == "trial_ended"]
    assert all(tell["metrics"]["time"] > 0 for tell in tells)
    assert [trial.values for trial in outcome.study.trials] == [
        [tell["value"], tell["metrics"]["time"]] for tell in tells
    ]
    front = {trial.number for trial in outcome.study.best_trials}
    assert outcome.best is not None
    assert outcome.best.number in front
    assert (
        project
        / "mlruns"
        / "studies"
        / "quick"
        / "trials"
        / str(outcome.best.number)
        / "weights.npz"
    ).exists()
    table = trials_table(outcome, "tune/macro_f1", ["time"])
    assert table.count("complete, on the front") == len(front)
    again = run_sweep(compose(line), line)  # all of it from the journal
    assert {trial.number for trial in again.study.best_trials} == front
    assert "picked from 4 trials by tune/macro_f1" in again.claim
