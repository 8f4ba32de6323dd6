"""Commands with ``sync.to``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.bucket.test_other_machine import WORDS, machine, study
from tests.kills import Fork


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def first(place: Path, fork: Fork) -> Path:
    """The project of a sweep that ended, with a copy in a bucket."""
    project = machine(place / "first")
    run = fork(project, [*WORDS, f"sync.to=file://{place}/bucket"])
    assert run.returncode == 0, run.stderr
    return project


def test_status_and_report_read_a_study_from_its_bucket_and_suggest_commands_that_do(
    first: Path, place: Path, tmp_path: Path, fork: Fork
) -> None:
    other = machine(tmp_path / "other")
    words = ["study=smoothing", f"sync.to=file://{place}/bucket"]
    shown = fork(other, [*words, "verb=status"])
    assert shown.returncode == 0, shown.stderr
    assert "4" in shown.stdout
    assert fork(other, [*words, "verb=report"]).returncode == 0
    assert (study(other) / "report.html").exists()


def test_the_same_command_elsewhere_trains_nothing_again(
    first: Path, place: Path, tmp_path: Path, fork: Fork
) -> None:
    bucket = tmp_path / "bucket"
    shutil.copytree(place / "bucket", bucket)
    other = machine(tmp_path / "other")
    run = fork(other, [*WORDS, f"sync.to=file://{bucket}"])
    assert run.returncode == 0, run.stderr
    before, after = ((study(p) / "journal.jsonl").read_bytes() for p in (first, other))
    assert after.startswith(before)
    assert after[len(before) :].count(b'"trial_asked"') == 0


def test_a_new_machine_begins_nothing_while_the_bucket_does_not_answer(
    tmp_path: Path, fork: Fork
) -> None:
    (tmp_path / "bucket").write_text("a file, where a folder should be")
    other = machine(tmp_path / "other")
    run = fork(other, [*WORDS, f"sync.to=file://{tmp_path}/bucket"])
    assert run.returncode == 1
    assert "does not answer or refuses" in run.stderr
    assert "Make the bucket answer, or leave out sync.to" in run.stderr
    assert not study(other).exists()


def test_a_bucket_that_stops_to_answer_stops_no_sweep_and_what_it_lacks_can_be_sent_later(
    tmp_path: Path, fork: Fork
) -> None:
    other, bucket = machine(tmp_path / "other"), tmp_path / "bucket"
    words = [*WORDS, f"sync.to=file://{bucket}"]
    assert fork(other, [*words, "sweep.n_trials=1"]).returncode == 0
    shutil.move(bucket, tmp_path / "away")
    bucket.write_text("a file, where a folder should be")
    run = fork(other, [*words, "sweep.n_trials=2"])
    assert run.returncode == 0, run.stderr
    assert "the bucket is tried again" in run.stderr
    assert "files are missing there. Send them: python -m flowersweep sync" in run.stderr
    bucket.unlink()
    shutil.move(tmp_path / "away", bucket)
    sent = fork(other, ["study=smoothing", f"sync.to=file://{bucket}", "verb=sync"])
    assert f"smoothing: file://{bucket} up to date now" in sent.stdout, sent.stderr
    third = machine(tmp_path / "third")
    fork(third, ["study=smoothing", f"sync.to=file://{bucket}", "verb=status"])
    journals = [(study(project) / "journal.jsonl").read_bytes() for project in (other, third)]
    assert journals[0] == journals[1]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/x", "must be gs://"),
        ("simplecache::s3://x/y", "must be gs://"),
        ("s3://KEY:swordfish@bucket/path", "Credentials do not belong there"),
        ("file://mlruns/studies", "must not lie in"),
        ("file://mlruns/studies/smoothing", "must not lie in"),
    ],
)
def test_an_address_that_is_no_bucket_is_refused(
    tmp_path: Path, fork: Fork, url: str, said: str
) -> None:
    run: subprocess.CompletedProcess[str] = fork(
        machine(tmp_path / "other"), [*WORDS, f"sync.to='{url}'"]
    )
    assert run.returncode == 1
    assert said in run.stderr
