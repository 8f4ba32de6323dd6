"""A study goes on with another space or objective when it is told to: what its trials mean then, and that a kill changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowersweep.ensemble.rebuild import from_journal
from flowersweep.study.journal import Event, read_events
from flowersweep.study.records import fold_records, meant
from flowersweep.tracking.projection import MlflowProjection
from tests.conftest import TINY
from tests.search.conftest import Fork
from tests.search.test_resume import BESIDE, WORDS, story, until_it_ends

NARROW = "sweep.space.label_smoothing.values='interval(0.0, 0.12)'"
ACCEPT = "sweep.accept=true"
SMALL = ["+sweep=smoothing", "tracking.enabled=false", "sampler.n_startup_trials=5", *TINY]


def journal(project: Path, study: str) -> list[Event]:
    return read_events(project / "mlruns" / "studies" / study / "journal.jsonl")[0]


def accepted(events: list[Event]) -> list[Any]:
    return [(event["anew"], event["outside"], event["params"], event["changes"]) for event in events if event["event"] == "accept"]


@pytest.mark.parametrize(
    ("change", "beside"), [(NARROW, BESIDE), ("sweep.objective=tune/macro_f1", [])], ids=["space, beside each other", "objective"]
)
def test_killed_after_it_was_accepted_equals_never_killed(change: str, beside: list[str], project: Path, fork: Fork) -> None:
    words = [*WORDS, *beside]
    for study in ("whole", "killed"):
        assert fork(project, [*words, f"study={study}"], "event 13 1.0").returncode != 0  # with trials in flight
    whole = fork(project, [*words, change, ACCEPT, "study=whole"])
    assert whole.returncode == 0, whole.stderr
    kills, _ = until_it_ends(fork, project, "event", 16, [*words, change, ACCEPT, "study=killed"])
    studies = project / "mlruns" / "studies"
    assert story(studies / "killed") == story(studies / "whole"), f"after kills at (event, share of its line) {kills}"
    assert accepted(journal(project, "killed")) == accepted(journal(project, "whole"))
    ended = [record for record in fold_records(journal(project, "killed")) if record.tell]
    assert len(ended) == 9


def test_what_has_changed_is_refused_with_both_ways_on_and_accepted_once_for_all(project: Path, fork: Fork) -> None:
    assert fork(project, [*SMALL, "sweep.n_trials=5"]).returncode == 0
    refused = fork(project, [*SMALL, NARROW, "sweep.n_trials=7"])
    assert refused.returncode == 1
    assert "space.label_smoothing.values: 'interval(0.0, 0.3)' -> 'interval(0.0, 0.12)'" in refused.stderr
    assert "study=NAME" in refused.stderr
    assert ACCEPT in refused.stderr
    went = fork(project, [*SMALL, NARROW, ACCEPT, "sweep.n_trials=7"])
    assert went.returncode == 0, went.stderr
    events = journal(project, "smoothing")
    wide = [event["trial"] for event in events if event["event"] == "ask" and event["params"].get("label_smoothing", 0) > 0.12]
    assert wide, "the test needs a trial that the narrower space leaves outside"
    assert [record.number for record in fold_records(events) if record.outside] == wide
    assert f"{len(wide)} of its 5 trials are outside" in went.stderr
    assert f"{len(wide)} outside" in went.stdout
    assert fork(project, [*SMALL, NARROW, "sweep.n_trials=7"]).returncode == 0  # what was accepted is what the study is
    back = fork(project, [*SMALL, "sweep.n_trials=7"])
    assert back.returncode == 1
    assert "'interval(0.0, 0.12)' -> 'interval(0.0, 0.3)'" in back.stderr
    again = fork(project, [*SMALL, ACCEPT, "sweep.n_trials=8"])
    assert again.returncode == 0, again.stderr
    assert not any(record.outside for record in fold_records(journal(project, "smoothing")))  # they are inside of the wide one again


def test_a_trial_counts_where_the_new_space_has_a_point_that_trains_the_same(project: Path, fork: Fork) -> None:
    assert fork(project, [*SMALL, "sweep.n_trials=6"]).returncode == 0
    before = fold_records(journal(project, "smoothing"))
    losses = {record.number: record.params["loss"] for record in before}
    assert {*losses.values()} == {"focal", "smoothed_cross_entropy"}
    # one parameter leaves the space, another comes in
    words = [*SMALL, "loss=focal", "+sweep.space.dropout={path: model.dropout, values: 'interval(0, 0.4)'}", "sweep.n_trials=8"]
    went = fork(project, [*words, ACCEPT])
    assert went.returncode == 0, went.stderr
    events = journal(project, "smoothing")
    for record in fold_records(events)[:6]:
        assert record.outside == (losses[record.number] != "focal")
        if not record.outside:
            known = {name: value for name, value in before[record.number].params.items() if name != "loss"}
            assert record.params == {**known, "dropout": from_journal(events[0], {"settings": {}}).model.dropout}
    for event in events:
        if event["event"] == "ask" and event["trial"] >= 6:  # what a journal says of a trial is the whole of it, as before
            whole = from_journal(events[0], event)
            assert (whole.loss["name"], whole.loss["gamma"], whole.model.dropout) == (
                "focal",
                event["params"]["gamma"],
                event["params"]["dropout"],
            )
    report = fork(project, ["report", "study=smoothing"])
    assert report.returncode == 0, report.stderr


def test_with_another_objective_the_best_is_another(project: Path, fork: Fork) -> None:
    assert fork(project, [*SMALL, "sweep.n_trials=6"]).returncode == 0
    first = fold_records(journal(project, "smoothing"))
    assert fork(project, [*SMALL, "sweep.objective=tune/macro_f1", ACCEPT, "sweep.n_trials=7"]).returncode == 0
    events = journal(project, "smoothing")
    assert (meant(events)["objective"], meant(events)["direction"]) == ("tune/macro_f1", "maximize")
    found = fold_records(events)
    assert len({record.value for record in found if record.state == "complete"}) > 1
    for record in found[:6]:
        assert record.state == first[record.number].state
        if record.state == "complete":
            assert record.value == record.metrics["tune/macro_f1"] != first[record.number].value
    status = fork(project, ["status", "study=smoothing"])
    top = max(record.value or 0.0 for record in found if record.state == "complete")
    assert f"tune/macro_f1 {top:.4f}" in status.stdout
    fold = MlflowProjection()
    tags = {name: value for change in fold.add(events) for name, value in change.tags.items()}
    assert tags["flowersweep.accepted"] == "sweep.objective: 'tune/calibrated_nll' -> 'tune/macro_f1'"


def test_what_cannot_be_accepted_says_why_and_changes_nothing(project: Path, fork: Fork) -> None:
    assert fork(project, [*SMALL, "sweep.n_trials=3"]).returncode == 0
    before = journal(project, "smoothing")
    for words, why in {
        ("data.split_seed=1",): "images, members and devices stay what they are (data.split_seed: 0 -> 1)",
        ("sampler=grid", "sampler.steps=2", "sweep.n_trials=4"): "sampler=grid counts its points from the first trial on",
        ("sweep.objectives=[tune/nll,time]", "pruner=none"): "told without time",
        ("engine=keras_tuner", "oracle=hyperband", "pruner=none", "sweep.n_trials=40"): "oracle=hyperband lays out its rounds",
    }.items():
        own = [word for word in SMALL if not word.startswith("sampler.")] if "grid" in why or "hyperband" in why else SMALL
        refused = fork(project, [*own, *words, ACCEPT])
        assert refused.returncode == 1
        assert why in refused.stderr
    assert "sweep.accept=true" not in fork(project, [*SMALL, "data.split_seed=1"]).stderr
    assert journal(project, "smoothing") == before
