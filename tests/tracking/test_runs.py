"""What the runs of a study are in MLflow: names, statuses, parameters, metrics and tags."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

from flowersweep.__main__ import main
from flowersweep.study.journal import Journal
from flowersweep.tracking import store
from flowersweep.tracking.pages.experiment import NOTE, links
from flowersweep.tracking.shipper import run_ids, sync
from tests.events import append
from tests.tracking.stored import LOCAL, snapshot, states


def test_a_study_becomes_one_parent_run_with_a_nested_run_for_each_trial(study):
    study.write(
        study.begin(),
        *study.whole(0),
        *study.whole(1, state="pruned"),
        *study.whole(2, state="failed", reason="loss is not finite"),
    )
    with Journal(study.path):  # the study still runs
        assert sync(study.path, LOCAL, study.dir) == 13
    runs = run_ids(study.path, LOCAL, study.dir)
    client = store.client(LOCAL, study.dir)
    parent = client.get_run(runs.parent)
    assert (parent.info.run_name, parent.info.status, parent.data.tags["flowersweep.kind"]) == (
        "smoothing",
        "RUNNING",
        "study",
    )
    assert parent.data.tags["mlflow.source.git.commit"] == "c0ffee"
    trials = [client.get_run(runs.trials[number]) for number in (0, 1, 2)]
    assert [trial.info.run_name for trial in trials] == [
        "smoothing-0000",
        "smoothing-0001",
        "smoothing-0002",
    ]
    assert [trial.info.status for trial in trials] == ["FINISHED", "FINISHED", "FAILED"]
    assert [trial.data.tags["flowersweep.state"] for trial in trials] == [
        "complete",
        "pruned",
        "failed",
    ]
    assert {trial.data.tags["mlflow.parentRunId"] for trial in trials} == {runs.parent}
    assert [trial.data.tags.get("pruned") for trial in trials] == [None, "true", None]
    assert trials[2].data.tags["flowersweep.reason"] == "loss is not finite"
    assert trials[1].data.params == {"gamma": "0.5"}
    assert trials[0].inputs.dataset_inputs[0].dataset.name == "flowers"


def test_times_steps_and_values_are_those_of_the_journal(study):
    study.write(study.begin(), *study.whole(0))
    sync(study.path, LOCAL, study.dir)
    events = [json.loads(line) for line in study.path.read_text().splitlines()]
    client = store.client(LOCAL, study.dir)
    run = client.get_run(run_ids(study.path, LOCAL, study.dir).trials[0])
    assert run.info.start_time == round(events[1]["time"] * 1000)
    assert run.info.end_time == round(events[-1]["time"] * 1000)
    history = sorted(
        client.get_metric_history(run.info.run_id, "train/loss"), key=lambda metric: metric.step
    )
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert history[2].timestamp == round(events[3]["epochs"][0]["time"] * 1000)
    assert [
        metric.step for metric in client.get_metric_history(run.info.run_id, "tune/macro_f1")
    ] == [3]


def test_the_parent_of_a_finished_study_shows_its_best_trial(study):
    study.write(study.begin(), *study.whole(0), *study.whole(1), study.stop(best=1))
    sync(study.path, LOCAL, study.dir)
    parent = store.client(LOCAL, study.dir).get_run(run_ids(study.path, LOCAL, study.dir).parent)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["tune/macro_f1"] == 0.51
    assert (
        parent.data.tags["flowersweep.best_trial"],
        parent.data.tags["flowersweep.best.gamma"],
    ) == ("1", "0.5")


def test_a_study_resumed_after_an_interruption_runs_again_and_may_find_a_better_trial(study):
    study.write(study.begin(), *study.whole(0), study.ask(1), study.stop("interrupted", best=0))
    sync(study.path, LOCAL, study.dir)
    client = store.client(LOCAL, study.dir)
    runs = run_ids(study.path, LOCAL, study.dir)
    statuses = [client.get_run(run).info.status for run in (runs.parent, runs.trials[1])]
    assert statuses == ["KILLED", "KILLED"]
    with Journal(study.path) as journal:
        append(journal, "study_resumed")
        sync(study.path, LOCAL, study.dir)
    statuses = [client.get_run(run).info.status for run in (runs.parent, runs.trials[1])]
    assert statuses == ["RUNNING", "RUNNING"]
    study.write(study.report(1, 1), study.tell(1), study.stop(best=1))
    sync(study.path, LOCAL, study.dir)
    parent = client.get_run(runs.parent)
    assert (parent.info.status, parent.data.tags["flowersweep.best_trial"]) == ("FINISHED", "1")
    assert parent.data.metrics["tune/macro_f1"] == 0.51
    assert client.get_run(runs.trials[1]).info.status == "FINISHED"


def test_the_runs_of_a_killed_study_are_closed_and_run_again_when_it_goes_on(study):
    # no stop: it was killed
    study.write(study.begin(), *study.whole(0), study.ask(1), study.report(1, 1))
    with Journal(study.path):
        sync(study.path, LOCAL, study.dir)
        assert states(study) == [
            ("smoothing", "RUNNING"),
            ("smoothing-0000", "FINISHED"),
            ("smoothing-0001", "RUNNING"),
        ]
    sync(study.path, LOCAL, study.dir)
    closed = snapshot(study.dir)
    assert states(study) == [
        ("smoothing", "KILLED"),
        ("smoothing-0000", "FINISHED"),
        ("smoothing-0001", "KILLED"),
    ]
    assert sync(study.path, LOCAL, study.dir) == 0
    assert snapshot(study.dir) == closed
    with Journal(study.path) as journal:
        append(journal, "study_resumed")
        sync(study.path, LOCAL, study.dir)
        assert [status for _, status in states(study)] == ["RUNNING", "FINISHED", "RUNNING"]
    study.write(study.report(1, 2), study.tell(1), study.stop(best=1))
    sync(study.path, LOCAL, study.dir)
    assert {status for _, status in states(study)} == {"FINISHED"}
    history = store.client(LOCAL, study.dir).get_metric_history(
        run_ids(study.path, LOCAL, study.dir).trials[1], "train/loss"
    )
    assert [metric.step for metric in history] == [1, 2]


def test_syncing_everything_leaves_the_study_of_a_live_process_alone(study, capsys, monkeypatch):
    other = replace(study, name="other")
    for each in (study, other):
        each.write(each.begin(), each.ask(0))
    monkeypatch.chdir(study.dir.parent)
    code = "import sys; from pathlib import Path; from flowersweep.study.journal import Journal\n"
    code += "j = Journal(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    live = subprocess.Popen(
        [sys.executable, "-c", code, str(study.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        live.stdout.readline()
        assert main(["sync"]) == 0
    finally:
        live.communicate("")
    assert f"smoothing: left to process {live.pid}" in capsys.readouterr().out
    assert states(study) == [("other", "KILLED"), ("other-0000", "KILLED")]
    assert not study.path.with_name("shipped.json").exists()


def test_single_trainings_are_told_apart_by_their_groups_and_what_the_command_said(study):
    config = {"model": {"name": "resnet50"}, "loss": {"name": "focal"}, "train": {"name": "frozen"}}
    words = [
        "verb=train",
        "study=x",
        "loss=focal",
        "loss.gamma=2",
        "train.epochs=3",
        "data.dir=flowers",
        "dir=elsewhere",
    ]
    known = {
        "study": study.name,
        "experiment": "train",
        "objective": "tune/nll",
        "direction": "minimize",
        "space": {},
    }
    study.write(
        lambda journal: append(journal, "study_started", **known, config=config, overrides=words),
        lambda j: append(j, "trial_asked", trial=0, params={}),
    )
    sync(study.path, LOCAL, study.dir)
    run = store.client(LOCAL, study.dir).get_run(run_ids(study.path, LOCAL, study.dir).trials[0])
    assert run.data.params == {
        "model": "resnet50",
        "loss": "focal",
        "train": "frozen",
        "gamma": "2",
        "epochs": "3",
    }


def test_the_machine_the_speed_and_the_compiled_programs_are_metrics(study):
    begun = {
        "config": {"train": {"batch_per_replica": 4, "min_head_steps": 0}},
        "provenance": {"replicas": 2, "data": {"counts": {"train": 19}, "classes": []}},
    }
    known = {
        "study": study.name,
        "experiment": study.name,
        "objective": "tune/nll",
        "direction": "minimize",
        "space": {"gamma": ""},
    }
    epochs = [
        {"epoch": e, "time": 1.7e9 + t, "metrics": {"train/loss": 1.0}}
        for e, t in ((1, 9), (2, 11), (3, 13), (4, 113))
    ]
    study.write(
        lambda journal: append(journal, "study_started", **known, **begun),
        study.ask(0),
        lambda journal: append(journal, "epochs_reported", trial=0, epochs=epochs, value=0.1),
        study.tell(0),
        lambda journal: append(journal, "programs_compiled", trial=0, programs=7),
        *(
            lambda journal, at=at: append(
                journal, "machine_sampled", metrics={"cpu_utilization_percentage": at}
            )
            for at in (12.5, 90.0)
        ),
    )
    sync(study.path, LOCAL, study.dir)
    client, runs = store.client(LOCAL, study.dir), run_ids(study.path, LOCAL, study.dir)
    metrics = client.get_run(runs.trials[0]).data.metrics
    # 2 steps of 8 images in 2 s; the pause does not count
    assert (metrics["images_per_second"], metrics["compiles"]) == (8.0, 7)
    history = client.get_metric_history(runs.parent, "system/cpu_utilization_percentage")
    assert [(point.step, point.value) for point in history] == [(0, 12.5), (1, 90.0)]


def test_a_thousand_epochs_and_a_thousand_metrics_arrive_whole(study):
    epochs = [
        {"epoch": e, "time": 1.7e9 + e, "metrics": {f"m{k}": float(e * k) for k in range(15)}}
        for e in range(1, 201)
    ]
    study.write(
        study.begin(),
        study.ask(0),
        lambda journal: append(journal, "epochs_reported", trial=0, epochs=epochs, value=0.1),
        study.tell(0),
    )
    sync(study.path, LOCAL, study.dir)
    client = store.client(LOCAL, study.dir)
    run = run_ids(study.path, LOCAL, study.dir).trials[0]
    assert len(client.get_metric_history(run, "m14")) == 200


def test_the_experiment_says_what_came_out_and_a_link_opens_its_runs_the_best_first(study):
    server = "http://127.0.0.1:5000"
    assert links(study.path, LOCAL, study.dir, server) is None
    study.write(study.begin(), *study.whole(0), *study.whole(1, state="pruned"), study.stop())
    sync(study.path, LOCAL, study.dir)
    client = store.client(LOCAL, study.dir)
    entry = client.get_experiment_by_name("smoothing")
    client.set_experiment_tag(entry.experiment_id, NOTE, "My own words.")
    with Journal(study.path) as journal:
        append(journal, "study_resumed")
    study.write(study.stop())
    sync(study.path, LOCAL, study.dir)
    entry = client.get_experiment_by_name("smoothing")
    note = entry.tags[NOTE]
    assert note.startswith("My own words.\n\n### smoothing\n\nSearched: `gamma`, on flowers.")
    assert "Trials: 1 complete, 1 pruned." in note
    assert "Best: trial 0, 0.3000 and held-out macro F1 0.4000, with `gamma` = 0." in note
    runs, comparison = links(study.path, LOCAL, study.dir, server)
    assert runs.startswith(f"{server}/#/experiments/{entry.experiment_id}/runs?")
    assert "compareRunsMode=CHART" in comparison
    key = runs.rpartition("viewStateShareKey=")[2]
    view = json.loads(entry.tags[f"mlflow.sharedViewState.{key}"])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`tune/nll`", True)
    assert {"params.`gamma`", "metrics.`holdout/macro_f1`"} <= set(view["selectedColumns"])
    matches = client.search_runs([entry.experiment_id], view["searchFilter"])
    assert len(matches) == 2
