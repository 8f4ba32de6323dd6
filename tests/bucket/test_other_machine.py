"""Commands with ``sync.to``.

A sweep that is killed, and goes on from its bucket in an empty project, is the sweep that was never
killed.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from flowersweep.config.schema import Sync
from flowersweep.errors import ConfigError
from flowersweep.workflows.buckets import fetch_studies
from tests.conftest import TINY, tiny_model
from tests.events import lines, story
from tests.kills import Fork
from tests.tiny import tiny

pytestmark = pytest.mark.slow

WORDS = [
    "+sweep=smoothing",
    "sweep.n_trials=4",
    "sampler.n_startup_trials=2",
    "train.checkpoint_interval_s=0",
    "tracking.enabled=false",
    "sync.interval_s=0",
    *TINY,
]


def machine(folder: Path) -> Path:
    """An empty project on another machine."""
    folder.mkdir(parents=True)
    tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fork: Fork) -> Path:
    """The project of a sweep that nobody killed; beside it is its bucket."""
    project = machine(tmp_path_factory.mktemp("whole") / "project")
    run = fork(project, [*WORDS, f"sync.to=file://{project.parent}/bucket"])
    assert run.returncode == 0, run.stderr
    return project


def study(project: Path) -> Path:
    return project / "mlruns" / "studies" / "smoothing"


def go_on_until_it_ends(fork: Fork, place: Path, moments: list[str]) -> Path:
    """Kill the sweep at these moments, each time on a machine of its own; return the last."""
    words = [*WORDS, f"sync.to=file://{place}/bucket"]
    for number, moment in enumerate(moments):
        run = fork(machine(place / f"machine{number}"), [*words, "sync.take_over=true"], moment)
        if number and run.returncode == 0:
            break  # less was left to write than until its moment
        assert run.returncode == -signal.SIGKILL, run.stderr
    last = machine(place / "last")
    run = fork(last, [*words, "sync.take_over=true"])
    assert run.returncode == 0, run.stderr
    return last


def require_same(one: Path, other: Path) -> None:
    assert story(study(one)) == story(study(other))
    results = [
        {path.relative_to(study(project)) for path in study(project).glob("trials/*/*.npz")}
        for project in (one, other)
    ]
    assert results[0] == results[1]
    for name in results[0]:
        with np.load(study(one) / name) as mine, np.load(study(other) / name) as yours:
            assert {*mine} == {*yours}
            for key in mine:
                np.testing.assert_array_equal(mine[key], yours[key])


@pytest.mark.parametrize(
    "moment", ["event 9 0.3", pytest.param("upload 7 0", marks=pytest.mark.slow)]
)
def test_a_killed_sweep_goes_on_elsewhere_as_if_it_had_never_been_killed(
    whole: Path, fork: Fork, tmp_path: Path, moment: str
) -> None:
    require_same(whole, go_on_until_it_ends(fork, tmp_path, [moment]))


def test_status_and_report_read_a_study_from_its_bucket_and_suggest_commands_that_do(
    whole: Path, tmp_path: Path, fork: Fork
) -> None:
    other = machine(tmp_path / "other")
    words = ["study=smoothing", f"sync.to=file://{whole.parent}/bucket"]
    shown = fork(other, [*words, "verb=status"])
    assert shown.returncode == 0, shown.stderr
    assert "4" in shown.stdout
    assert fork(other, [*words, "verb=report"]).returncode == 0
    assert (study(other) / "report.html").exists()


def test_the_same_command_elsewhere_trains_nothing_again(
    whole: Path, tmp_path: Path, fork: Fork
) -> None:
    bucket = tmp_path / "bucket"
    shutil.copytree(whole.parent / "bucket", bucket)
    other = machine(tmp_path / "other")
    run = fork(other, [*WORDS, f"sync.to=file://{bucket}"])
    assert run.returncode == 0, run.stderr
    before, after = ((study(p) / "journal.jsonl").read_bytes() for p in (whole, other))
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
    whole: Path, tmp_path: Path, fork: Fork
) -> None:
    other, bucket = tmp_path / "other", tmp_path / "bucket"
    shutil.copytree(whole, other)
    words = [*WORDS, f"sync.to=file://{bucket}"]
    bucket.write_text("a file, where a folder should be")
    run = fork(other, [*words, "sweep.n_trials=5"])
    assert run.returncode == 0, run.stderr
    assert "the bucket is tried again" in run.stderr
    assert "files are missing there. Send them: python -m flowersweep sync" in run.stderr
    bucket.unlink()
    shutil.copytree(whole.parent / "bucket", bucket)
    sent = fork(
        other,
        ["study=smoothing", f"sync.to=file://{bucket}", "verb=sync", "tracking.enabled=false"],
    )
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
    run = fork(machine(tmp_path / "other"), [*WORDS, f"sync.to='{url}'"])
    assert run.returncode == 1
    assert said in run.stderr


def test_a_name_of_another_study_cannot_lead_out_of_the_folder_of_studies(tmp_path: Path) -> None:
    config = tiny(dir=str(tmp_path / "mlruns"), sync=Sync(to=f"file://{tmp_path}/bucket"))
    for name in ("../outside", "/outside", "", ".."):
        with pytest.raises(ConfigError, match="no name of a study"):
            fetch_studies(config, [name])


def test_a_new_machine_logs_the_best_model_to_its_own_empty_mlflow(
    tmp_path: Path, fork: Fork
) -> None:
    project = machine(tmp_path / "project")
    words = [*WORDS, "sweep.n_trials=2", f"sync.to=file://{tmp_path}/bucket"]
    words.append("tracking.enabled=true")
    for _ in range(2):
        run = fork(project, words)
        assert run.returncode == 0, run.stderr
        journal = lines(study(project))
        shutil.rmtree(project / "mlruns")  # the path of the next machine is the same
    logged = [line["run"] for line in journal if line["event"] == "model_logged"]
    assert len({*logged}) == 2


@pytest.mark.parametrize("series", range(1))
def test_a_sweep_that_is_killed_again_and_again_at_random_goes_on_elsewhere(
    whole: Path, fork: Fork, tmp_path: Path, kill_seed: int, series: int
) -> None:
    rng = np.random.default_rng([kill_seed, series])
    most = {"event": 8, "checkpoint": 5, "upload": 12}
    moments = []
    for _ in range(3):
        kind = str(rng.choice([*most]))
        moments.append(f"{kind} {rng.integers(2, most[kind])} {rng.choice([0.0, 0.3, 1.0])}")
    print(moments)
    require_same(whole, go_on_until_it_ends(fork, tmp_path, moments))
