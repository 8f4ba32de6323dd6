"""The thread that ships beside a study: what is wrong with the store costs a warning, and nothing
of the training.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time

import pytest

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError
from flowersweep.tracking import mlflow_sink, store
from flowersweep.tracking.mlflow_sink import MlflowSink
from flowersweep.tracking.shipper import NICE, Shipper, run_ids, sync
from tests.tracking.stored import LOCAL, snapshot, states
from tests.waiting import wait_for


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
    with Shipper(MlflowSink(study.path, LOCAL, study.dir)) as shipper:
        for trial in range(3):
            study.write(*study.whole(trial))
            shipper.wake()
        assert shipper.drain(30)
        assert len(run_ids(study.path, LOCAL, study.dir).trials) == 3
        study.write(study.stop())
    parent = run_ids(study.path, LOCAL, study.dir).parent
    assert store.client(LOCAL, study.dir).get_run(parent).info.status == "FINISHED"


def test_a_bug_in_shipping_is_logged_once_with_its_traceback_and_loses_nothing(
    study, monkeypatch, caplog
):
    broken = [ZeroDivisionError("a bug")] * 2
    apply = mlflow_sink.MlflowSink._apply

    def now_and_then(self, client, change):
        if change.trial == 0 and broken:
            raise broken.pop()
        apply(self, client, change)

    monkeypatch.setattr(mlflow_sink.MlflowSink, "_apply", now_and_then)
    study.write(study.begin(), *study.whole(0))
    with Shipper(MlflowSink(study.path, LOCAL, study.dir)) as shipper:
        assert shipper.drain(30)
    assert [
        record.exc_info is not None
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ] == [True]
    assert len(snapshot(study.dir)) == 2


def test_a_store_that_cannot_be_opened_costs_a_warning_and_not_the_training(
    study, caplog, free_port
):
    study.write(study.begin(), *study.whole(0))
    nowhere = Tracking(uri=f"http://me:swordfish@127.0.0.1:{free_port}")
    began = time.monotonic()
    with Shipper(MlflowSink(study.path, nowhere, study.dir)) as shipper:
        shipper.wake()
        assert time.monotonic() - began < 0.5
    assert time.monotonic() - began < 20
    assert "python -m flowersweep sync study=smoothing" in caplog.text
    assert "swordfish" not in caplog.text
    with pytest.raises(TrackingError, match="does not answer"):
        sync(study.path, nowhere, study.dir)
    assert sync(study.path, LOCAL, study.dir) == 5


@pytest.mark.slow
def test_a_database_that_another_process_locks_holds_up_nothing_and_gets_all_of_it(
    study, caplog, capfd
):
    study.write(study.begin())
    code = (
        "import sys, sqlite3; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN EXCLUSIVE'); "
        "print(flush=True); sys.stdin.read()"
    )
    with Shipper(MlflowSink(study.path, LOCAL, study.dir)) as shipper:
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
    assert states(study) == [
        (name, "FINISHED")
        for name in ("smoothing", "smoothing-0000", "smoothing-0001", "smoothing-0002")
    ]
    trials = [values for values in snapshot(study.dir).values() if values[0][0] != "smoothing"]
    assert [
        [len(history[key]) for key in ("train/loss", "tune/nll", "tune/macro_f1")]
        for *_, history, _, _ in trials
    ] == [[3, 3, 1]] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own")
def test_the_thread_is_below_training_until_the_command_waits_for_it(study):
    priorities = []

    class Noting(MlflowSink):
        def step(self):
            priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            return super().step()

    study.write(study.begin())
    usual = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    sink = Noting(study.path, LOCAL, study.dir)
    with Shipper(sink) as shipper:
        shipper.wake(soon=True)
        wait_for(lambda: priorities)
        study.write(*study.whole(0))
        assert shipper.drain(30)
        assert priorities[0] == max(NICE, usual)
        assert priorities[-1] == usual
    assert len(snapshot(study.dir)) == 2


def test_a_deleted_run_stays_deleted_when_the_cursor_is_lost_or_of_another_store(study, tmp_path):
    study.write(study.begin(), *study.whole(0), *study.whole(1), study.stop(best=0))
    sync(study.path, LOCAL, study.dir)
    deleted = run_ids(study.path, LOCAL, study.dir).trials[1]
    store.client(LOCAL, study.dir).delete_run(deleted)
    sync(study.path, Tracking(uri=f"sqlite:///{tmp_path}/other.db"), study.dir)
    sync(study.path, LOCAL, study.dir)
    assert [*run_ids(study.path, LOCAL, study.dir).trials] == [0]
    study.path.with_name("shipped.json").unlink()
    sync(study.path, LOCAL, study.dir)
    store.client(LOCAL, study.dir).restore_run(deleted)
    assert run_ids(study.path, LOCAL, study.dir).trials[1] == deleted
    assert len(snapshot(study.dir)) == 3


def test_parameters_of_any_name_reach_mlflow_each_with_its_value(study):
    names = ["a/../b", "", "..", "x" * 300, "x" * 301, "lr[0]", "lr(0)", "/lr", "a.b/c d:e"]
    params = {name: number / 2 for number, name in enumerate(names)}
    study.write(study.begin(), study.ask(0, **params), study.tell(0), study.stop(best=0))
    sync(study.path, LOCAL, study.dir)
    client = store.client(LOCAL, study.dir)
    runs = run_ids(study.path, LOCAL, study.dir)
    shown = client.get_run(runs.trials[0]).data.params
    assert sorted(shown.values()) == sorted(str(value) for value in params.values())
    assert shown["a.b/c d:e"] == "4.0"
    tags = client.get_run(runs.parent).data.tags
    assert len([tag for tag in tags if "best." in tag or tag.startswith("flowersweep_best_")]) == 9


def test_two_processes_do_not_ship_one_study_at_once(study):
    study.write(study.begin())
    with Shipper(MlflowSink(study.path, LOCAL, study.dir)) as shipper:
        assert shipper.drain(30)
        with pytest.raises(TrackingError, match="by another process"):
            sync(study.path, LOCAL, study.dir)
    sync(study.path, LOCAL, study.dir)


def test_an_unknown_study_is_named_beside_those_there_are(study):
    study.write(study.begin())
    with pytest.raises(TrackingError, match=r'no study "smothing".*Did you mean "smoothing"'):
        run_ids(study.path.parent.with_name("smothing") / "journal.jsonl", LOCAL, study.dir)


def test_importing_the_shipper_imports_neither_mlflow_nor_keras():
    code = (
        "import sys, flowersweep.tracking.shipper; print({'mlflow', 'keras', 'jax', 'pandas'} & "
        "set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )
