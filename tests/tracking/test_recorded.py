"""What is read back of a run that MLflow holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError
from flowersweep.tracking import store
from flowersweep.tracking.recorded import load_run
from flowersweep.tracking.shipper import run_ids, sync


def test_a_trial_that_was_pruned_after_one_epoch_has_a_course(study, tmp_path: Path) -> None:
    study.write(
        study.begin(),
        study.ask(0),
        study.report(0, 1),
        study.tell(0, "pruned"),
        *study.whole(1),
        study.stop(best=1),
    )
    sync(study.path, Tracking(), study.dir)
    runs = run_ids(study.path, Tracking(), study.dir).trials
    found = load_run(runs[0], Tracking(), study.dir, tmp_path / "files")
    assert (found.state, found.epochs) == ("pruned", 1)
    assert found.curves["train/loss"] == {1: 1.0}
    ended = load_run(runs[1], Tracking(), study.dir, tmp_path / "files")
    assert ended.curves.keys() == {"train/loss", "tune/nll"}  # what came at the end is none


def test_a_database_file_sends_nobody_to_a_server(study, tmp_path: Path) -> None:
    study.write(study.begin(), *study.whole(0), study.stop(best=0))
    sync(study.path, Tracking(), study.dir)
    run = run_ids(study.path, Tracking(), study.dir).trials[0]
    with closing(sqlite3.connect(study.dir / "mlflow.db")) as database:
        database.execute("UPDATE runs SET artifact_uri = 'http://127.0.0.1:9/x'")
        database.execute("UPDATE experiments SET artifact_location = 'http://127.0.0.1:9/x'")
        database.commit()
    with pytest.raises(TrackingError, match="which a database file may not"):
        load_run(run, Tracking(), study.dir, tmp_path / "files")
    with pytest.raises(TrackingError, match="which a database file may not"):
        store.experiment(store.client(Tracking(), study.dir), study.name, study.dir)
