"""Where things go, and that a fresh database survives its first users."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError
from flowersweep.tracking import store
from flowersweep.tracking.shipper import run_ids, sync

LOCAL = Tracking()


def test_the_database_lies_in_the_folder_and_its_address_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store.address(LOCAL, Path("mlruns")) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert store.address(Tracking(uri="http://host:5000"), tmp_path) == "http://host:5000"


def test_an_experiment_is_made_once_and_keeps_its_artifacts_in_the_folder(mlruns):
    client = store.client(LOCAL, mlruns)
    made = store.experiment(client, "tuesday & more", mlruns)
    assert store.experiment(client, "tuesday & more", mlruns) == made
    assert (
        client.get_experiment(made).artifact_location
        == (mlruns / "artifacts" / "tuesday-more").as_uri()
    )


def test_a_deleted_experiment_is_said_to_be_one(mlruns):
    client = store.client(LOCAL, mlruns)
    client.delete_experiment(store.experiment(client, "smoothing", mlruns))
    with pytest.raises(TrackingError, match="experiments restore -x"):
        store.experiment(client, "smoothing", mlruns)


def test_a_store_that_cannot_be_opened_is_named_without_its_password(tmp_path):
    with pytest.raises(TrackingError, match=r"http://\*\*\*@localhost:1/x does not answer"):
        raise store.unreachable("http://me:swordfish@localhost:1/x", OSError("refused"))
    with pytest.raises(TrackingError, match=r"postgres://\*\*\*@localhost:1/x: MLflow knows no"):
        store.client(Tracking(uri="postgres://me:swordfish@localhost:1/x"), tmp_path)


@pytest.mark.slow
def test_processes_that_start_together_make_one_database_and_say_nothing(tmp_path):
    code = (
        "import sys, pathlib; from flowersweep.config.schema import Tracking; from "
        "flowersweep.tracking import store; "
    )
    code += (
        "dir = pathlib.Path(sys.argv[1]); client = store.client(Tracking(), dir); "
        "print(store.experiment(client, 'x', dir))"
    )
    begin = [sys.executable, "-c", code, str(tmp_path / "mlruns")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    processes = [
        subprocess.Popen(
            begin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert [
        (process.returncode, *words) for process, words in zip(processes, said, strict=True)
    ] == [(0, "1\n", "")] * 3


def test_a_database_that_was_left_half_made_is_made_anew(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "mlflow.partial") as half:
        half.execute("create table experiments (experiment_id integer)")
    half.close()
    assert store.client(Tracking(), tmp_path).search_experiments()
    assert not (tmp_path / "mlflow.partial").exists()


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("./runs", "neither a server nor a database"),
        ("file:///tmp/runs", "MLflow knows no database file"),
        ("postgres://host/x", "MLflow knows no database postgres"),
        ("databricks", "neither a server nor a database"),
        ("oracle://host/x", "MLflow knows no database oracle"),
        ("http://", "a server needs a host"),
        ("http://host:many", "the port is no number"),
        ("sqlite://", "a database needs a file"),
        ("sqlite:////nowhere/at/all.db", "/nowhere/at is no folder"),
        ("mysql+nodriver://host/x", "neither a server nor a database"),
    ],
)
def test_an_address_where_no_store_can_be_is_refused_before_any_work(
    uri: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrackingError, match=rf"tracking\.uri=.*{why}"):
        store.require_address(Tracking(uri=uri), tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match=rf"MLFLOW_TRACKING_URI=.*{why}"):
        store.require_address(LOCAL, tmp_path)


def test_an_address_where_a_store_may_be_is_taken(tmp_path: Path) -> None:
    for uri in (None, "http://host:5000", f"sqlite:///{tmp_path}/team.db"):
        store.require_address(Tracking(uri=uri), tmp_path)


def test_the_variables_of_mlflow_are_honoured_or_it_is_said_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.experiment_name("train") == "train"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "flowers")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://other:5000")
    assert store.address(LOCAL, tmp_path) == "http://host:5000"
    assert store.address(Tracking(uri="http://mine:1"), tmp_path) == "http://mine:1"
    assert store.experiment_name("train") == "flowers"
    store.require_address(LOCAL, tmp_path)
    assert "MLFLOW_REGISTRY_URI is not used" in caplog.text


def test_a_folder_that_was_moved_keeps_its_files_together(study, tmp_path: Path) -> None:
    study.write(study.begin(), *study.whole(0), study.stop(best=0))
    sync(study.path, LOCAL, study.dir)
    moved = tmp_path / "elsewhere" / "mlruns"
    moved.parent.mkdir()
    study.dir.rename(moved)
    client = store.client(LOCAL, moved)
    run = client.get_run(run_ids(moved / study.path.relative_to(study.dir), LOCAL, moved).trials[0])
    assert run.info.artifact_uri.startswith((moved / "artifacts").as_uri())
    assert client.list_artifacts(run.info.run_id)
    assert store.experiment(client, "smoothing", moved) == run.info.experiment_id
    assert not study.dir.exists()


def test_a_database_in_a_folder_that_cannot_be_written_is_read(mlruns: Path) -> None:
    (mlruns / "mlflow.lock").mkdir()  # no file can be made there, also by root
    assert store.client(Tracking(), mlruns).search_experiments()
    (mlruns / "mlflow.db").unlink()
    with pytest.raises(TrackingError, match=r"cannot write into .*dir=PATH"):
        store.client(Tracking(), mlruns)
