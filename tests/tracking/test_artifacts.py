"""What files the runs of a study keep in MLflow, and that no secret is in them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from flowersweep.errors import TrackingError
from flowersweep.tracking import store
from flowersweep.tracking.shipper import run_ids, sync
from tests.events import append
from tests.tracking.stored import LOCAL, artifact, files_of

EVALUATION = [
    "calibration_holdout.csv",
    "calibration_tune.csv",
    "confusion_holdout.csv",
    "confusion_tune.csv",
    "logits.npz",
    "per_class_holdout.csv",
    "per_class_tune.csv",
]


def test_files_of_a_run_that_were_written_in_part_are_replaced_before_it_counts_as_finished(
    study, monkeypatch
):
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
    kept = Path(
        client.get_run(run).info.artifact_uri.removeprefix("file://"), "evaluation", "logits.npz"
    )
    assert kept.read_bytes() == (study.path.parent / "trials/0/logits.npz").read_bytes()


def test_a_trial_keeps_its_whole_configuration_and_what_it_confused(study):
    study.write(
        study.begin(), study.ask(0), study.tell(0, logits=True), study.ask(1), study.tell(1)
    )
    sync(study.path, LOCAL, study.dir)
    first, second = run_ids(study.path, LOCAL, study.dir).trials.values()
    config = yaml.safe_load(artifact(study.dir, second, "config.yaml"))
    assert config == {
        "loss": {"name": "focal", "gamma": 0.5},
        "data": {"dir": "flowers", "api_key": "***"},
        "train": {"epochs": 3},
    }
    rows = list(
        csv.reader(artifact(study.dir, first, "evaluation/confusion_tune.csv").splitlines())
    )
    assert rows[0][1:] == ["pink primrose", "wild rose", "tulip", "daisy"]
    assert rows[1] == ["pink primrose", "1", "1", "0", "0"]
    table = list(
        csv.DictReader(artifact(study.dir, first, "evaluation/per_class_holdout.csv").splitlines())
    )
    assert table[1] == {
        "class": "wild rose",
        "precision": "0.6667",
        "recall": "1.0",
        "f1": "0.8",
        "support": "2",
    }
    kept = sorted(files_of(store.client(LOCAL, study.dir), first))
    assert kept == [
        "config.yaml",
        *(f"evaluation/{name}" for name in EVALUATION),
        "provenance.json",
    ]
    assert files_of(store.client(LOCAL, study.dir), second) == ["config.yaml", "provenance.json"]


def test_the_pictures_that_a_trial_left_are_shown_with_its_run(study):
    study.write(
        study.begin(),
        study.ask(0),
        study.tell(0, logits=True),
        study.ask(1),
        study.tell(1, logits=True),
    )
    for trial, name in [(0, "schedule.svg"), (1, "schedule.svg"), (1, "augmentation.jpg")]:
        (study.path.parent / "trials" / str(trial) / name).write_text(f"{name} of trial {trial}")
    sync(study.path, LOCAL, study.dir)
    first, second = run_ids(study.path, LOCAL, study.dir).trials.values()
    assert artifact(study.dir, first, "schedule.svg") == "schedule.svg of trial 0"
    assert artifact(study.dir, second, "augmentation.jpg") == "augmentation.jpg of trial 1"
    assert "augmentation.jpg" not in files_of(store.client(LOCAL, study.dir), first)


def test_broken_logits_cost_the_run_its_tables_only(study, caplog):
    study.write(study.begin(), study.ask(0), study.tell(0, logits=True))
    (study.path.parent / "trials/0/logits.npz").write_bytes(b"half a file")
    sync(study.path, LOCAL, study.dir)
    assert "logits.npz cannot be read" in caplog.text
    assert (
        store.client(LOCAL, study.dir)
        .get_run(run_ids(study.path, LOCAL, study.dir).trials[0])
        .info.status
        == "FINISHED"
    )


def test_no_secret_reaches_the_store(study):
    study.write(
        study.begin(),
        *study.whole(0, state="failed", reason="no answer from http://me:swordfish@host/x"),
        study.stop(best=None),
    )
    sync(study.path, LOCAL, study.dir)
    kept = [
        path for path in study.dir.rglob("*") if path.is_file() and path.name != "journal.jsonl"
    ]
    assert len(kept) > 5
    assert [path for path in kept if b"swordfish" in path.read_bytes()] == []


def test_no_secret_in_the_code_or_on_the_command_line_reaches_the_store(study):
    changes = "+TOKEN = 'swordfish'\n+uri = 'http://me:swordfish@host'\n+slope = 2\n"
    facts = {
        "command": "python -m flowersweep train +fetch.api_key=swordfish",
        "overrides": ["+fetch.api_key=swordfish"],
        "git_diff": "d1",
    }
    begun = {
        "provenance": {**facts, "data": {"classes": []}},
        "overrides": facts["overrides"],
        "space": {},
    }
    known = {
        "study": study.name,
        "experiment": study.name,
        "seed": 0,
        "objective": "tune/nll",
        "direction": "minimize",
        "config": {},
    }
    study.path.parent.mkdir(parents=True)
    (study.path.parent / "code.diff").write_text(changes)
    study.write(
        lambda journal: append(journal, "study_started", **known, **begun),
        study.ask(0),
        study.tell(0),
        study.stop(),
    )
    sync(study.path, LOCAL, study.dir)
    kept = [
        path
        for path in study.dir.rglob("*")
        if path.is_file() and path.name != "journal.jsonl" and path.parent != study.path.parent
    ]
    assert [path for path in kept if b"swordfish" in path.read_bytes()] == []
    parent = run_ids(study.path, LOCAL, study.dir).parent
    assert (
        artifact(study.dir, parent, "code.diff")
        == "+TOKEN = ***\n+uri = 'http://***@host'\n+slope = 2\n"
    )
