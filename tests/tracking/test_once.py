"""Whatever interrupts the shipping of a journal, nothing of it is lost or double."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flowersweep.errors import TrackingError
from flowersweep.study.journal import Journal
from flowersweep.tracking import store
from flowersweep.tracking.shipper import run_ids, sync
from tests.events import append
from tests.tracking.stored import LOCAL, snapshot


def test_a_run_that_could_not_be_made_at_first_has_the_tags_of_its_trial(study, monkeypatch):
    def asked(journal: Journal) -> Any:
        return append(
            journal,
            "trial_asked",
            trial=0,
            params={"gamma": 1.0},
            settings={"loss.gamma": 1.0, "seed": 777},
            seed=777,
        )

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
    tags = (
        store.client(LOCAL, study.dir)
        .get_run(run_ids(study.path, LOCAL, study.dir).trials[0])
        .data.tags
    )
    assert (tags["flowersweep.state"], tags["flowersweep.seed"]) == ("complete", "777")


@pytest.mark.parametrize("lost", ["nothing", "the cursor", "all but the runs"])
def test_shipping_again_changes_nothing(study, lost):
    study.write(
        study.begin(),
        *study.whole(0, logits=True),
        *study.whole(1),
        study.ask(2),
        study.report(2, 1),
        study.stop(best=0),
    )
    sync(study.path, LOCAL, study.dir)
    before = snapshot(study.dir)
    cursor = study.path.with_name("shipped.json")
    if lost == "the cursor":
        cursor.unlink()
    # killed in the middle of the first batch: the runs are there, the cursor is as before
    if lost == "all but the runs":
        first = len(study.path.read_bytes().splitlines(keepends=True)[0])
        cursor.write_text(
            json.dumps(json.loads(cursor.read_text()) | {"offset": first, "runs": {}})
        )
    assert (sync(study.path, LOCAL, study.dir) == 0) == (lost == "nothing")
    assert snapshot(study.dir) == before
    assert len(before) == 4


def test_the_cursor_does_not_grow_with_the_study_and_news_of_an_ended_trial_still_find_its_run(
    study,
):
    study.write(
        study.begin(), *(step for trial in range(5) for step in study.whole(trial)), study.ask(5)
    )
    sync(study.path, LOCAL, study.dir)
    assert json.loads(study.path.with_name("shipped.json").read_text())["runs"].keys() == {
        "study",
        "5",
    }
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
    study.write(
        study.begin(), *study.whole(0, logits=True), *study.whole(1), *study.whole(2), study.stop()
    )
    code = """
import os, pathlib, sys
from flowersweep.config.schema import Tracking
from flowersweep.tracking import shipper, store
dir, journal, left = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
from mlflow import MlflowClient
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
def counted(kind, name):
    call = getattr(kind, name)
    def count(*given, **named):
        global left
        answer = call(*given, **named)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        return answer
    return count
for name in ("create_run", "log_batch", "set_terminated"):
    setattr(MlflowClient, name, counted(MlflowClient, name))
LocalArtifactRepository.log_artifacts = counted(LocalArtifactRepository, "log_artifacts")
shipper.sync(journal, Tracking(), dir)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, str(study.dir), str(study.path), str(calls)],
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -9, killed.stderr
    sync(study.path, LOCAL, study.dir)
    content = snapshot(study.dir)
    assert sorted((info[0], info[1]) for info, *_ in content.values()) == [
        ("smoothing", "FINISHED"),
    ("smoothing-0000", "FINISHED"),
    ("smoothing-0001", "FINISHED"),
    ("smoothing-0002", "FINISHED"),
    ]  # fmt: skip
    trials = [values for values in content.values() if values[0][0] != "smoothing"]
    assert [
        [len(history[key]) for key in ("train/loss", "tune/nll", "tune/macro_f1")]
        for *_, history, _, _ in trials
    ] == [[3, 3, 1]] * 3
    assert sorted(len(files) for *_, files, _ in trials) == [2, 2, 9]


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


def test_a_torn_last_line_is_left_for_later_and_the_rest_is_shipped(study):
    study.write(study.begin(), *study.whole(0))
    whole = study.path.read_bytes()
    study.path.write_bytes(whole[:-9])
    assert sync(study.path, LOCAL, study.dir) == 4
    study.path.write_bytes(whole)
    assert sync(study.path, LOCAL, study.dir) == 1
    assert len(snapshot(study.dir)) == 2
