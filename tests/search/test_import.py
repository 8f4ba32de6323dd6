"""A new study takes over the trials of others that its space has a point for, and a kill changes nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.config.compose import compose, parse
from flowersweep.search import optuna_study
from flowersweep.space.space import build_space
from flowersweep.space.transforms import ppf
from flowersweep.study.journal import Event, read_events
from flowersweep.study.records import fold_records
from tests.conftest import TINY
from tests.search.conftest import Fork
from tests.search.test_resume import BESIDE

SMALL = ["+sweep=smoothing", "tracking.enabled=false", "sampler.n_startup_trials=5", *TINY]
NARROW = "sweep.space.label_smoothing.values='interval(0.0, 0.12)'"
IMPORT = "sweep.import_from=[wide]"


def journal(project: Path, study: str) -> list[Event]:
    return read_events(project / "mlruns" / "studies" / study / "journal.jsonl")[0]


def imports(events: list[Event]) -> list[Event]:
    return [event for event in events if event["event"] == "import"]


def story(events: list[Event]) -> list[dict[str, Any]]:
    """What happened, without when and on which thread."""
    kept = [json.loads(json.dumps(event)) for event in events if event["event"] in ("import", "ask", "report", "tell")]
    for event in kept:
        event.pop("worker", None)
        for timed in [event, *event.get("epochs", [])]:
            timed.pop("time")
    return kept


def run(fork: Fork, project: Path, *words: str) -> str:
    """Run a command that succeeds; return what it said."""
    done = fork(project, [*SMALL, *words])
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_narrower_space_takes_over_what_fits(project: Path, fork: Fork) -> None:
    run(fork, project, "study=wide", "sweep.n_trials=8")
    wide = fold_records(journal(project, "wide"))
    said = run(fork, project, NARROW, IMPORT, "study=narrow", "sweep.n_trials=3")
    fitting = [record for record in wide if record.state in ("complete", "pruned") and record.params.get("label_smoothing", 0.0) <= 0.12]
    assert 5 <= len(fitting) < len(wide), "the test needs trials that fit and one that does not"
    assert f"imported {len(fitting)} of the 8 trials of study wide; the other {8 - len(fitting)} have" in said
    assert f"learned from: {len(fitting)}" in said
    events = journal(project, "narrow")
    assert [event["event"] for event in events[: len(fitting) + 1]] == ["study", *["import"] * len(fitting)]
    for record, event in zip(fitting, imports(events), strict=True):
        assert (event["study"], event["trial"], event["state"]) == ("wide", record.number, record.state)
        assert (event["params"], event["value"], event["metrics"]) == (record.params, record.value, record.metrics)
        assert dict(event["reports"]) == record.reports
    own = fold_records(events)
    assert [record.number for record in own] == [0, 1, 2]
    assert all(record.tell for record in own)
    # the best is one of the study's own, whose files are there
    best = next(event["best"] for event in reversed(events) if event["event"] == "stop")
    assert (project / "mlruns" / "studies" / "narrow" / "trials" / str(best) / "weights.npz").exists()
    assert fork(project, ["report", "study=narrow"]).returncode == 0


def test_another_parameter_fits_where_its_default_does(project: Path, fork: Fork) -> None:
    run(fork, project, "study=wide", "sweep.n_trials=6")
    wide = fold_records(journal(project, "wide"))
    dropout = "+sweep.space.dropout={path: model.dropout, values: 'interval(0, 0.4)'}"
    run(fork, project, "loss=focal", dropout, IMPORT, "study=focal", "sweep.n_trials=1")
    focal = [record for record in wide if record.params["loss"] == "focal"]
    assert 0 < len(focal) < len(wide)
    taken = imports(journal(project, "focal"))
    assert [event["trial"] for event in taken] == [record.number for record in focal]
    for record, event in zip(focal, taken, strict=True):
        assert event["params"] == {**{k: v for k, v in record.params.items() if k != "loss"}, "dropout": 0.2}


def test_with_another_objective_values_and_curves_are_read_from_the_metrics(project: Path, fork: Fork) -> None:
    run(fork, project, "study=wide", "sweep.n_trials=6")
    run(fork, project, "sweep.objective=tune/macro_f1", IMPORT, "study=f1", "sweep.n_trials=2")
    source = journal(project, "wide")
    curves: dict[int, list[list[float]]] = {}
    for event in source:
        if event["event"] == "report":
            last = event["epochs"][-1]
            curves.setdefault(event["trial"], []).append([last["epoch"], last["metrics"]["tune/macro_f1"]])
    taken = imports(journal(project, "f1"))
    assert {event["state"] for event in taken} >= {"complete"}
    for event in taken:
        assert event["reports"] == curves[event["trial"]]
        complete = event["state"] == "complete"
        assert event["value"] == (event["metrics"]["tune/macro_f1"] if complete else curves[event["trial"]][-1][1])
    # Optuna takes them: several objectives too, of the complete trials alone
    words = ["sweep.objectives=[tune/macro_f1,tune/nll]", "pruner=none", IMPORT, "study=two", "sweep.n_trials=2"]
    said = run(fork, project, *words)
    two = imports(journal(project, "two"))
    assert [event["trial"] for event in two] == [event["trial"] for event in taken if event["state"] == "complete"]
    assert f"learned from: {len(two)}" in said


@pytest.mark.parametrize("target", [0.05, 0.25])
def test_the_sampler_suggests_near_the_imported_trials_that_were_good(target: float) -> None:
    words = ("+sweep=smoothing", "loss=smoothed_cross_entropy", "sampler.n_startup_trials=10")
    config = compose(words)
    space = build_space(config, words, parse(words))
    taken = []
    for number, smoothing in enumerate(np.linspace(0.0, 0.3, 20).tolist()):
        middle = space.fill_active(lambda parameter: ppf(parameter.distribution, 0.5))
        params, value = {**middle, "label_smoothing": smoothing}, abs(smoothing - target)
        taken.append(
            {"study": "wide", "trial": number, "state": "complete", "params": params, "value": value, "metrics": {}, "reports": []}
        )
    study = optuna_study.rebuild_study([], space, config, taken)
    assert study.trials[3].user_attrs == {"source": "wide:3"}
    suggested = [optuna_study.ask_trial(study, 20 + n, space=space, config=config)[1]["label_smoothing"] for n in range(9)]
    assert abs(float(np.median(suggested)) - target) < 0.06


@pytest.mark.parametrize("beside", [[], BESIDE], ids=["one after the other", "beside each other"])
def test_killed_while_it_imports_and_later_equals_never_killed(beside: list[str], project: Path, fork: Fork) -> None:
    run(fork, project, "study=wide", "sweep.n_trials=6", *beside)
    words = [*SMALL, *beside, "sweep.n_trials=4", IMPORT]
    whole = fork(project, [*words, "study=whole"])
    assert whole.returncode == 0, whole.stderr
    assert len(imports(journal(project, "whole"))) >= 4
    # behind the first import, in the middle of the next one's line, behind the last one or a trial's first events
    for moment in ("event 2 1.0", "event 2 0.5", "event 6 1.0"):
        killed = fork(project, [*words, "study=killed"], moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    end = fork(project, [*words, "study=killed"])
    assert end.returncode == 0, end.stderr
    assert story(journal(project, "killed")) == story(journal(project, "whole"))
    assert end.stdout.splitlines()[:5] == whole.stdout.splitlines()[:5]


def test_what_a_study_imports_is_part_of_what_it_is(project: Path, fork: Fork) -> None:
    run(fork, project, "study=wide", "sweep.n_trials=2")
    run(fork, project, IMPORT, "study=new", "sweep.n_trials=1")
    run(fork, project, "study=wide", "sweep.n_trials=3")  # the source goes on; what was imported stays
    run(fork, project, IMPORT, "study=new", "sweep.n_trials=2")
    assert [event["trial"] for event in imports(journal(project, "new"))] == [0, 1]
    refused = fork(project, [*SMALL, "study=new", "sweep.n_trials=2"])
    assert refused.returncode == 1
    assert "sweep.import_from: ['wide'] -> []" in refused.stderr


def test_a_changed_study_is_refused_with_both_ways_on(project: Path, fork: Fork) -> None:
    run(fork, project, "study=wide", "sweep.n_trials=1")
    refused = fork(project, [*SMALL, NARROW, "study=wide"])
    assert refused.returncode == 1
    assert "space.label_smoothing.values: 'interval(0.0, 0.3)' -> 'interval(0.0, 0.12)'" in refused.stderr
    assert "begin another: study=NAME. For one that learns from the trials of this: study=NAME 'sweep.import_from=[wide]'" in refused.stderr
    images = fork(project, [*SMALL, "data.split_seed=1", "study=wide"])
    assert "study=NAME" in images.stderr
    assert "import_from" not in images.stderr


def test_what_cannot_be_imported_says_why_and_begins_nothing(project: Path, fork: Fork) -> None:
    run(fork, project, "study=wide", "sweep.n_trials=2")
    images = next(word for word in TINY if word.startswith("data.fetch=")).replace("classes: 5", "classes: 4")
    wide = "sweep.import_from=[wide]"
    for words, why in {
        ("sweep.import_from=[widd]",): 'no other study "widd"',
        ("sweep.import_from=[new]",): 'no other study "new"',
        (images, wide): "trained on other images",
        ("sweep.objectives=[tune/nll,time]", "pruner=none", wide): 'of study "wide" have no time',
        ("sampler=grid", "sampler.steps=2", "sweep.n_trials=4", wide): "sampler=grid learns nothing",
        ("sampler=qmc", wide): "sampler=qmc learns nothing",
        ("sampler=random", wide): "sampler=random learns nothing",
        ("engine=keras_tuner", "oracle=bayesian", wide): "Use `engine=optuna`",
    }.items():
        plain = any(word.startswith(("sampler=", "engine=")) for word in words)
        base = [word for word in SMALL if not (plain and word.startswith("sampler."))]
        refused = fork(project, [*base, *words, "study=new"])
        assert refused.returncode == 1, words
        assert why in refused.stderr
        assert not journal(project, "new")
    alone = fork(project, ["train", "tracking.enabled=false", wide, *TINY])
    assert alone.returncode == 1
    assert "one training has nothing to search" in alone.stderr
