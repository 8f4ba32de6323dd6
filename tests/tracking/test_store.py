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
    with pytest.raises(TrackingError, match=r"postgresql://\*\*\*@localhost:1/x does not answer"):
        store.client(Tracking(uri="postgresql://me:swordfish@localhost:1/x"), tmp_path)


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


def test_a_database_in_a_folder_that_cannot_be_written_is_read(mlruns: Path) -> None:
    (mlruns / "mlflow.lock").mkdir()  # no file can be made there, also by root
    assert store.client(Tracking(), mlruns).search_experiments()
    (mlruns / "mlflow.db").unlink()
    with pytest.raises(TrackingError, match=r"cannot write into .*dir=PATH"):
        store.client(Tracking(), mlruns)
