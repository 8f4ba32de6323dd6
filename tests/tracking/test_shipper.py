"""What a journal becomes in MLflow, and that nothing on the way loses or doubles it."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from flowersweep.__main__ import main
from flowersweep.config import Tracking
from flowersweep.errors import TrackingError
from flowersweep.journal import Journal
from flowersweep.tracking import shipment, store
from flowersweep.tracking.shipment import Shipment
from flowersweep.tracking.shipper import Shipper, run_ids, sync

LOCAL = Tracking()
EVALUATION = [
    "calibration_report.csv",
    "calibration_tune.csv",
    "confusion_report.csv",
    "confusion_tune.csv",
    "logits.npz",
    "per_class_report.csv",
    "per_class_tune.csv",
]


def snapshot(dir: Path, tracking: Tracking = LOCAL) -> dict[str, Any]:
    """Return all that the store holds of all runs, by run id."""
    client = store.client(tracking, dir)
    content = {}
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
        history = {
            key: sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, key)) for key in run.data.metrics
        }
        files = sorted(_files(client, run.info.run_id))
        info = (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time)
        content[run.info.run_id] = (info, run.data.tags, run.data.params, history, files, len(run.inputs.dataset_inputs))
    return content


def _files(client: Any, run: str, path: str | None = None) -> list[str]:
    found = client.list_artifacts(run, path)
    return [name for item in found for name in (_files(client, run, item.path) if item.is_dir else [item.path])]


def artifact(dir: Path, run: str, path: str) -> str:
    client = store.client(LOCAL, dir)
    return (Path(client.get_run(run).info.artifact_uri.removeprefix("file://")) / path).read_text()


def test_a_run_that_could_not_be_made_at_first_has_the_tags_of_its_trial(study, monkeypatch):
    def asked(journal: Journal) -> Any:
        return journal.append("ask", trial=0, params={"gamma": 1.0}, settings={"loss.gamma": 1.0, "seed": 777}, seed=777)

    study.write(study.begin(), asked, *study.whole(0)[1:])
    whole, tries = MlflowClient.create_run, []

    def refusing(client: MlflowClient, *args: Any, **more: Any) -> Any:
        tries.append(more["run_name"])
        if tries == ["smoothing", "smoothing-0000"]:
            raise MlflowException("not now")
        return whole(client, *args, **more)

    monkeypatch.setattr(MlflowClient, "create_run", refusing)
    with pytest.raises(TrackingError):
        sync(study.path, LOCAL, study.dir)
    sync(study.path, LOCAL, study.dir)
    tags = store.client(LOCAL, study.dir).get_run(run_ids(study.path, LOCAL, study.dir).trials[0]).data.tags
    assert (tags["flowersweep.state"], tags["flowersweep.seed"]) == ("complete", "777")


def test_a_study_becomes_one_parent_run_with_a_nested_run_for_each_trial(study):
    study.write(
        study.begin(), *study.whole(0), *study.whole(1, state="pruned"), *study.whole(2, state="failed", reason="loss is not finite")
    )
    with Journal(study.path):  # the study still runs
        assert sync(study.path, LOCAL, study.dir) == 13
    runs = run_ids(study.path, LOCAL, study.dir)
    client = store.client(LOCAL, study.dir)
    parent = client.get_run(runs.parent)
    assert (parent.info.run_name, parent.info.status, parent.data.tags["flowersweep.kind"]) == ("smoothing", "RUNNING", "study")
    assert parent.data.tags["mlflow.source.git.commit"] == "c0ffee"
    trials = [client.get_run(runs.trials[number]) for number in (0, 1, 2)]
    assert [trial.info.run_name for trial in trials] == ["smoothing-0000", "smoothing-0001", "smoothing-0002"]
    assert [trial.info.status for trial in trials] == ["FINISHED", "KILLED", "FAILED"]
    assert [trial.data.tags["flowersweep.state"] for trial in trials] == ["complete", "pruned", "failed"]
    assert {trial.data.tags["mlflow.parentRunId"] for trial in trials} == {runs.parent}
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
    history = sorted(client.get_metric_history(run.info.run_id, "train/loss"), key=lambda metric: metric.step)
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert history[2].timestamp == round(events[3]["epochs"][0]["time"] * 1000)
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "tune/macro_f1")] == [3]


def test_the_parent_of_a_finished_study_shows_its_best_trial(study):
    study.write(study.begin(), *study.whole(0), *study.whole(1), study.stop(best=1))
    sync(study.path, LOCAL, study.dir)
    parent = store.client(LOCAL, study.dir).get_run(run_ids(study.path, LOCAL, study.dir).parent)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["tune/macro_f1"] == 0.51
    assert (parent.data.tags["flowersweep.best_trial"], parent.data.tags["flowersweep.best.gamma"]) == ("1", "0.5")


def test_a_study_resumed_after_an_interruption_runs_again_and_may_find_a_better_trial(study):
    study.write(study.begin(), *study.whole(0), study.ask(1), study.stop("interrupted", best=0))
    sync(study.path, LOCAL, study.dir)
    client = store.client(LOCAL, study.dir)
    runs = run_ids(study.path, LOCAL, study.dir)
    statuses = [client.get_run(run).info.status for run in (runs.parent, runs.trials[1])]
    assert statuses == ["KILLED", "KILLED"]
    with Journal(study.path) as journal:
        journal.append("resume")
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
    study.write(study.begin(), *study.whole(0), study.ask(1), study.report(1, 1))  # no stop: it was killed
    with Journal(study.path):
        sync(study.path, LOCAL, study.dir)
        assert states(study) == [("smoothing", "RUNNING"), ("smoothing-0000", "FINISHED"), ("smoothing-0001", "RUNNING")]
    sync(study.path, LOCAL, study.dir)
    closed = snapshot(study.dir)
    assert states(study) == [("smoothing", "KILLED"), ("smoothing-0000", "FINISHED"), ("smoothing-0001", "KILLED")]
    assert sync(study.path, LOCAL, study.dir) == 0
    assert snapshot(study.dir) == closed
    with Journal(study.path) as journal:
        journal.append("resume")
        sync(study.path, LOCAL, study.dir)
        assert [status for _, status in states(study)] == ["RUNNING", "FINISHED", "RUNNING"]
    study.write(study.report(1, 2), study.tell(1), study.stop(best=1))
    sync(study.path, LOCAL, study.dir)
    assert {status for _, status in states(study)} == {"FINISHED"}
    history = store.client(LOCAL, study.dir).get_metric_history(run_ids(study.path, LOCAL, study.dir).trials[1], "train/loss")
    assert [metric.step for metric in history] == [1, 2]


def test_syncing_everything_leaves_the_study_of_a_live_process_alone(study, capsys, monkeypatch):
    other = replace(study, name="other")
    for each in (study, other):
        each.write(each.begin(), each.ask(0))
    monkeypatch.chdir(study.dir.parent)
    code = "import sys; from pathlib import Path; from flowersweep.journal import Journal\n"
    code += "j = Journal(Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    live = subprocess.Popen([sys.executable, "-c", code, str(study.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        live.stdout.readline()
        assert main(["sync"]) == 0
    finally:
        live.communicate("")
    assert f"smoothing: left to process {live.pid}" in capsys.readouterr().out
    assert states(study) == [("other", "KILLED"), ("other-0000", "KILLED")]
    assert not study.path.with_name("shipped.json").exists()


def states(study):
    """Return names and statuses of all runs."""
    return sorted((info[0], info[1]) for info, *_ in snapshot(study.dir).values())


def test_files_of_a_run_that_were_written_in_part_are_replaced_before_it_counts_as_finished(study, monkeypatch):
    upload = LocalArtifactRepository.log_artifacts
    whole = []

    def torn(self, folder, path=None):
        if not whole:
            whole.append(True)
            upload(self, folder, path)
            Path(self.artifact_dir, "evaluation", "logits.npz").write_bytes(b"half")
            raise OSError("the disk went away")
        upload(self, folder, path)

    study.write(study.begin())
    sync(study.path, LOCAL, study.dir)
    study.write(*study.whole(0, logits=True))
    monkeypatch.setattr(LocalArtifactRepository, "log_artifacts", torn)
    with pytest.raises(TrackingError):
        sync(study.path, LOCAL, study.dir)
    run = run_ids(study.path, LOCAL, study.dir).trials[0]
    client = store.client(LOCAL, study.dir)
    assert client.get_run(run).info.status == "RUNNING"
    sync(study.path, LOCAL, study.dir)
    assert client.get_run(run).info.status == "FINISHED"
    kept = Path(client.get_run(run).info.artifact_uri.removeprefix("file://"), "evaluation", "logits.npz")
    assert kept.read_bytes() == (study.path.parent / "trials/0/logits.npz").read_bytes()


def test_a_trial_keeps_its_whole_configuration_and_what_it_confused(study):
    study.write(study.begin(), study.ask(0), study.tell(0, logits=True), study.ask(1), study.tell(1))
    sync(study.path, LOCAL, study.dir)
    first, second = run_ids(study.path, LOCAL, study.dir).trials.values()
    config = yaml.safe_load(artifact(study.dir, second, "config.yaml"))
    assert config == {"loss": {"name": "focal", "gamma": 0.5}, "data": {"dir": "flowers", "api_key": "***"}, "train": {"epochs": 3}}
    rows = list(csv.reader(artifact(study.dir, first, "evaluation/confusion_tune.csv").splitlines()))
    assert rows[0][1:] == ["pink primrose", "wild rose", "tulip", "daisy"]
    assert rows[1] == ["pink primrose", "1", "1", "0", "0"]
    table = list(csv.DictReader(artifact(study.dir, first, "evaluation/per_class_report.csv").splitlines()))
    assert table[1] == {"class": "wild rose", "precision": "0.6667", "recall": "1.0", "f1": "0.8", "support": "2"}
    kept = sorted(_files(store.client(LOCAL, study.dir), first))
    assert kept == ["config.yaml", *(f"evaluation/{name}" for name in EVALUATION), "provenance.json"]
    assert _files(store.client(LOCAL, study.dir), second) == ["config.yaml", "provenance.json"]


def test_the_pictures_that_a_trial_left_are_shown_with_its_run(study):
    study.write(study.begin(), study.ask(0), study.tell(0, logits=True), study.ask(1), study.tell(1, logits=True))
    for trial, name in [(0, "schedule.svg"), (1, "schedule.svg"), (1, "augmentation.jpg")]:
        (study.path.parent / "trials" / str(trial) / name).write_text(f"{name} of trial {trial}")
    sync(study.path, LOCAL, study.dir)
    first, second = run_ids(study.path, LOCAL, study.dir).trials.values()
    assert artifact(study.dir, first, "schedule.svg") == "schedule.svg of trial 0"
    assert artifact(study.dir, second, "augmentation.jpg") == "augmentation.jpg of trial 1"
    assert "augmentation.jpg" not in _files(store.client(LOCAL, study.dir), first)


def test_broken_logits_cost_the_run_its_tables_only(study, caplog):
    study.write(study.begin(), study.ask(0), study.tell(0, logits=True))
    (study.path.parent / "trials/0/logits.npz").write_bytes(b"half a file")
    sync(study.path, LOCAL, study.dir)
    assert "logits.npz cannot be read" in caplog.text
    assert store.client(LOCAL, study.dir).get_run(run_ids(study.path, LOCAL, study.dir).trials[0]).info.status == "FINISHED"


def test_no_secret_reaches_the_store(study):
    study.write(study.begin(), *study.whole(0, state="failed", reason="no answer from http://me:swordfish@host/x"), study.stop(best=None))
    sync(study.path, LOCAL, study.dir)
    kept = [path for path in study.dir.rglob("*") if path.is_file() and path.name != "journal.jsonl"]
    assert len(kept) > 5
    assert [path for path in kept if b"swordfish" in path.read_bytes()] == []


def test_no_secret_in_the_code_or_on_the_command_line_reaches_the_store(study):
    changes = "+TOKEN = 'swordfish'\n+uri = 'http://me:swordfish@host'\n+slope = 2\n"
    facts = {"command": "python -m flowersweep train +fetch.api_key=swordfish", "overrides": ["+fetch.api_key=swordfish"], "git_diff": "d1"}
    begun = {"provenance": {**facts, "data": {"classes": []}}, "overrides": facts["overrides"], "space": {}}
    known = {"study": study.name, "experiment": study.name, "seed": 0, "objective": "tune/nll", "direction": "minimize", "config": {}}
    study.path.parent.mkdir(parents=True)
    (study.path.parent / "code.diff").write_text(changes)
    study.write(lambda journal: journal.append("study", **known, **begun), study.ask(0), study.tell(0), study.stop())
    sync(study.path, LOCAL, study.dir)
    kept = [path for path in study.dir.rglob("*") if path.is_file() and path.name != "journal.jsonl" and path.parent != study.path.parent]
    assert [path for path in kept if b"swordfish" in path.read_bytes()] == []
    parent = run_ids(study.path, LOCAL, study.dir).parent
    assert artifact(study.dir, parent, "code.diff") == "+TOKEN = ***\n+uri = 'http://***@host'\n+slope = 2\n"


def test_single_trainings_are_told_apart_by_their_groups_and_what_the_command_said(study):
    config = {"model": {"name": "resnet50"}, "loss": {"name": "focal"}, "train": {"name": "frozen"}}
    words = ["verb=train", "study=x", "loss=focal", "loss.gamma=2", "train.epochs=3", "data.dir=flowers", "dir=elsewhere"]
    known = {"study": study.name, "experiment": "train", "objective": "tune/nll", "direction": "minimize", "space": {}}
    study.write(
        lambda journal: journal.append("study", **known, config=config, overrides=words), lambda j: j.append("ask", trial=0, params={})
    )
    sync(study.path, LOCAL, study.dir)
    run = store.client(LOCAL, study.dir).get_run(run_ids(study.path, LOCAL, study.dir).trials[0])
    assert run.data.params == {"model": "resnet50", "loss": "focal", "train": "frozen", "gamma": "2", "epochs": "3"}


def test_the_machine_the_speed_and_the_compiled_programs_are_metrics(study):
    begun = {"config": {"train": {"batch_per_replica": 4}}, "provenance": {"replicas": 2, "data": {"counts": {"train": 19}, "classes": []}}}
    known = {"study": study.name, "experiment": study.name, "objective": "tune/nll", "direction": "minimize", "space": {"gamma": ""}}
    epochs = [{"epoch": e, "time": 1.7e9 + t, "metrics": {"train/loss": 1.0}} for e, t in ((1, 9), (2, 11), (3, 13), (4, 113))]
    study.write(
        lambda journal: journal.append("study", **known, **begun),
        study.ask(0),
        lambda journal: journal.append("report", trial=0, epochs=epochs, value=0.1),
        study.tell(0),
        lambda journal: journal.append("compiled", trial=0, programs=7),
        *(lambda journal, at=at: journal.append("machine", metrics={"cpu_utilization_percentage": at}) for at in (12.5, 90.0)),
    )
    sync(study.path, LOCAL, study.dir)
    client, runs = store.client(LOCAL, study.dir), run_ids(study.path, LOCAL, study.dir)
    metrics = client.get_run(runs.trials[0]).data.metrics
    assert (metrics["images_per_second"], metrics["compiles"]) == (8.0, 7)  # 2 steps of 8 images in 2 s; the pause does not count
    history = client.get_metric_history(runs.parent, "system/cpu_utilization_percentage")
    assert [(point.step, point.value) for point in history] == [(0, 12.5), (1, 90.0)]


@pytest.mark.parametrize("lost", ["nothing", "the cursor", "all but the runs"])
def test_shipping_again_changes_nothing(study, lost):
    study.write(study.begin(), *study.whole(0, logits=True), *study.whole(1), study.ask(2), study.report(2, 1), study.stop(best=0))
    sync(study.path, LOCAL, study.dir)
    before = snapshot(study.dir)
    cursor = study.path.with_name("shipped.json")
    if lost == "the cursor":
        cursor.unlink()
    if lost == "all but the runs":  # killed in the middle of the first batch: the runs are there, the cursor is as before
        first = len(study.path.read_bytes().splitlines(keepends=True)[0])
        cursor.write_text(json.dumps(json.loads(cursor.read_text()) | {"offset": first, "runs": {}}))
    assert (sync(study.path, LOCAL, study.dir) == 0) == (lost == "nothing")
    assert snapshot(study.dir) == before
    assert len(before) == 4


def test_the_cursor_does_not_grow_with_the_study_and_news_of_an_ended_trial_still_find_its_run(study):
    study.write(study.begin(), *(step for trial in range(5) for step in study.whole(trial)), study.ask(5))
    sync(study.path, LOCAL, study.dir)
    assert json.loads(study.path.with_name("shipped.json").read_text())["runs"].keys() == {"study", "5"}
    study.write(study.report(3, 4))
    assert sync(study.path, LOCAL, study.dir) == 1
    assert len(snapshot(study.dir)) == 7
    run = run_ids(study.path, LOCAL, study.dir).trials[3]
    assert len(store.client(LOCAL, study.dir).get_metric_history(run, "train/loss")) == 4


def test_a_cursor_of_another_study_of_this_name_is_not_believed(study):
    study.write(study.begin(), *study.whole(0))
    sync(study.path, LOCAL, study.dir)
    study.path.unlink()
    study.write(study.begin(), *study.whole(0), *study.whole(1))
    assert sync(study.path, LOCAL, study.dir) == 9
    assert len(snapshot(study.dir)) == 5


@pytest.mark.parametrize("calls", [1, 4, 7, 11])
def test_a_process_killed_while_it_ships_leaves_nothing_double_and_nothing_out(study, calls):
    study.write(study.begin(), *study.whole(0, logits=True), *study.whole(1), *study.whole(2), study.stop())
    code = """
import os, pathlib, sys
from flowersweep.config import Tracking
from flowersweep.tracking import shipper, store
dir, journal, left = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
from mlflow import MlflowClient
def counted(name):
    call = getattr(MlflowClient, name)
    def count(*given, **named):
        global left
        answer = call(*given, **named)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        return answer
    return count
for name in ("create_run", "log_batch", "log_artifacts", "set_terminated"):
    setattr(MlflowClient, name, counted(name))
shipper.sync(journal, Tracking(), dir)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(study.dir), str(study.path), str(calls)], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    sync(study.path, LOCAL, study.dir)
    content = snapshot(study.dir)
    assert sorted((info[0], info[1]) for info, *_ in content.values()) == [
        ("smoothing", "FINISHED"), ("smoothing-0000", "FINISHED"), ("smoothing-0001", "FINISHED"), ("smoothing-0002", "FINISHED")
    ]  # fmt: skip
    trials = [values for values in content.values() if values[0][0] != "smoothing"]
    assert [[len(history[key]) for key in ("train/loss", "tune/nll", "tune/macro_f1")] for *_, history, _, _ in trials] == [[3, 3, 1]] * 3
    assert sorted(len(files) for *_, files, _ in trials) == [2, 2, 9]


def test_a_thousand_epochs_and_a_thousand_metrics_arrive_whole(study):
    epochs = [{"epoch": e, "time": 1.7e9 + e, "metrics": {f"m{k}": float(e * k) for k in range(15)}} for e in range(1, 201)]
    study.write(study.begin(), study.ask(0), lambda journal: journal.append("report", trial=0, epochs=epochs, value=0.1), study.tell(0))
    sync(study.path, LOCAL, study.dir)
    client = store.client(LOCAL, study.dir)
    run = run_ids(study.path, LOCAL, study.dir).trials[0]
    assert len(client.get_metric_history(run, "m14")) == 200


def test_a_store_that_was_emptied_is_filled_again(study, migrated):
    study.write(study.begin(), *study.whole(0))
    sync(study.path, LOCAL, study.dir)
    elsewhere = study.dir.with_name("other")
    shutil.copytree(study.dir, elsewhere)
    shutil.copy(migrated, elsewhere / "mlflow.db")
    path = elsewhere / study.path.relative_to(study.dir)
    cursor = path.with_name("shipped.json")
    cursor.write_text(cursor.read_text().replace(str(study.dir), str(elsewhere)))
    assert sync(path, LOCAL, elsewhere) == 5
    assert len(snapshot(elsewhere)) == 2


def test_a_run_deleted_in_mlflow_does_not_hold_up_the_others(study, caplog):
    study.write(study.begin(), study.ask(0), study.ask(1))
    sync(study.path, LOCAL, study.dir)
    runs = run_ids(study.path, LOCAL, study.dir)
    client = store.client(LOCAL, study.dir)
    client.delete_run(runs.trials[0])
    study.write(study.tell(0), study.tell(1))
    assert sync(study.path, LOCAL, study.dir) == 2
    assert "smoothing-0000 was deleted" in caplog.text
    assert client.get_run(runs.trials[1]).info.status == "FINISHED"


def test_the_thread_ships_while_the_study_goes_on_and_drains_at_the_end(study):
    study.write(study.begin())
    with Shipper(Shipment(study.path, LOCAL, study.dir)) as shipper:
        for trial in range(3):
            study.write(*study.whole(trial))
            shipper.wake()
        assert shipper.drain(30)
        assert len(run_ids(study.path, LOCAL, study.dir).trials) == 3
        study.write(study.stop())
    parent = run_ids(study.path, LOCAL, study.dir).parent
    assert store.client(LOCAL, study.dir).get_run(parent).info.status == "FINISHED"


def test_a_bug_in_shipping_is_logged_once_with_its_traceback_and_loses_nothing(study, monkeypatch, caplog):
    broken = [ZeroDivisionError("a bug")] * 2
    apply = shipment.Shipment._apply

    def now_and_then(self, client, change):
        if change.trial == 0 and broken:
            raise broken.pop()
        apply(self, client, change)

    monkeypatch.setattr(shipment.Shipment, "_apply", now_and_then)
    study.write(study.begin(), *study.whole(0))
    with Shipper(Shipment(study.path, LOCAL, study.dir)) as shipper:
        assert shipper.drain(30)
    assert [record.exc_info is not None for record in caplog.records if record.levelno >= logging.WARNING] == [True]
    assert len(snapshot(study.dir)) == 2


def test_a_store_that_cannot_be_opened_costs_a_warning_and_not_the_training(study, caplog, free_port):
    study.write(study.begin(), *study.whole(0))
    nowhere = Tracking(uri=f"http://me:swordfish@127.0.0.1:{free_port}")
    began = time.monotonic()
    with Shipper(Shipment(study.path, nowhere, study.dir)) as shipper:
        shipper.wake()
        assert time.monotonic() - began < 0.5
    assert time.monotonic() - began < 20
    assert "python -m flowersweep sync study=smoothing" in caplog.text
    assert "swordfish" not in caplog.text
    with pytest.raises(TrackingError, match="does not answer"):
        sync(study.path, nowhere, study.dir)
    assert sync(study.path, LOCAL, study.dir) == 5


def test_a_database_that_another_process_locks_holds_up_nothing_and_gets_all_of_it(study, caplog, capfd):
    study.write(study.begin())
    code = "import sys, sqlite3; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN EXCLUSIVE'); print(flush=True); sys.stdin.read()"
    with Shipper(Shipment(study.path, LOCAL, study.dir)) as shipper:
        study.write(*study.whole(0))
        assert shipper.drain(60)
        command = [sys.executable, "-c", code, str(study.dir / "mlflow.db")]
        locker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            locker.stdout.readline()
            study.write(*study.whole(1))
            assert not shipper.drain(None)  # MLflow has SQLite try for 20 seconds
            assert "database is locked" in caplog.text
            assert "Traceback" not in capfd.readouterr().err
            study.write(*study.whole(2))
        finally:
            locker.communicate("")
        study.write(study.stop())
        assert shipper.drain(60)
    assert states(study) == [(name, "FINISHED") for name in ("smoothing", "smoothing-0000", "smoothing-0001", "smoothing-0002")]
    trials = [values for values in snapshot(study.dir).values() if values[0][0] != "smoothing"]
    assert [[len(history[key]) for key in ("train/loss", "tune/nll", "tune/macro_f1")] for *_, history, _, _ in trials] == [[3, 3, 1]] * 3


def test_a_torn_last_line_is_left_for_later_and_the_rest_is_shipped(study):
    study.write(study.begin(), *study.whole(0))
    whole = study.path.read_bytes()
    study.path.write_bytes(whole[:-9])
    assert sync(study.path, LOCAL, study.dir) == 4
    study.path.write_bytes(whole)
    assert sync(study.path, LOCAL, study.dir) == 1
    assert len(snapshot(study.dir)) == 2


def test_two_processes_do_not_ship_one_study_at_once(study):
    study.write(study.begin())
    with Shipper(Shipment(study.path, LOCAL, study.dir)) as shipper:
        assert shipper.drain(30)
        with pytest.raises(TrackingError, match="by another process"):
            sync(study.path, LOCAL, study.dir)
    sync(study.path, LOCAL, study.dir)


def test_an_unknown_study_is_named_beside_those_there_are(study):
    study.write(study.begin())
    with pytest.raises(TrackingError, match=r'no study "smothing".*Did you mean "smoothing"'):
        run_ids(study.path.parent.with_name("smothing") / "journal.jsonl", LOCAL, study.dir)


def test_importing_the_shipper_imports_neither_mlflow_nor_keras():
    code = "import sys, flowersweep.tracking.shipper; print({'mlflow', 'keras', 'jax', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
