"""A bucket in a real S3 server on this machine."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowersweep.bucket.mirror import Mirror
from flowersweep.bucket.ownership import Ownership
from flowersweep.bucket.restore import restore
from flowersweep.bucket.store import Bucket, open_bucket
from flowersweep.errors import BucketError
from flowersweep.study.journal import Journal
from tests.bucket.test_mirror import run_trials
from tests.bucket.test_other_machine import WORDS, machine, study
from tests.conftest import environment
from tests.events import append, lines, story
from tests.waiting import wait_for

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
pytestmark = pytest.mark.slow

ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which S3 is a server on this machine, with a bucket ``flowers``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = tmp_path_factory.mktemp("moto") / "log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(port)],
            stdout=out,
            stderr=out,
            env=environment(),
        ) as process,
    ):
        try:

            def answers() -> bool:
                with socket.socket() as client:
                    return client.connect_ex(("127.0.0.1", port)) == 0

            wait_for(answers)
            account = {**ACCOUNT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
            create = "import s3fs; s3fs.S3FileSystem().mkdir('flowers')"
            command = [sys.executable, "-c", create]
            subprocess.run(command, env=environment() | account, check=True)
            yield account
        finally:
            process.terminate()


@pytest.fixture
def bucket(server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return open_bucket(f"s3://flowers/{tmp_path.name}", "roses")


def test_an_object_store_does_what_a_folder_does(bucket: Bucket) -> None:
    assert bucket.sizes() == {}
    bucket.write("clock", b"")
    bucket.write("journal/000000.abc", b"one")
    chunks: list[None] = []
    large = os.urandom(20 << 20)  # more than one part of an upload
    bucket.upload("trials/0/logits.npz.def", io.BytesIO(large), lambda: chunks.append(None))
    assert bucket.sizes() == {
        "clock": 0,
        "journal/000000.abc": 3,
        "trials/0/logits.npz.def": len(large),
    }
    assert len(chunks) == 3
    assert bucket.read("journal/000000.abc") == b"one"
    into = io.BytesIO()
    bucket.download("trials/0/logits.npz.def", into)
    assert into.getvalue() == large
    assert bucket.modified("clock") <= bucket.modified("trials/0/logits.npz.def")
    bucket.remove(["clock", "trials/0/logits.npz.def"])
    assert bucket.sizes() == {"journal/000000.abc": 3}
    with pytest.raises(FileNotFoundError):
        bucket.read("clock")


def test_of_two_machines_one_creates_an_object(bucket: Bucket) -> None:
    assert bucket.create("owner-000001.json", b"a")
    assert not bucket.create("owner-000001.json", b"b")
    assert bucket.read("owner-000001.json") == b"a"


def test_a_store_that_refuses_is_named(bucket: Bucket) -> None:
    other = open_bucket("s3://another/path", "roses")
    with pytest.raises(BucketError, match="s3://another/path/roses does not answer or refuses"):
        other.write("clock", b"")


def run(project: Path, server: dict[str, str], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flowersweep", *WORDS, *words],
        cwd=project,
        env=environment() | server,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_sweep_that_is_killed_goes_on_from_s3_on_another_machine(
    server: dict[str, str], bucket: Bucket, tmp_path: Path
) -> None:
    url = f"sync.to=s3://flowers/{tmp_path.name}-sweep"
    studies = open_bucket(url.partition("=")[2], "smoothing")
    first, last, whole = (machine(tmp_path / name) for name in ("first", "last", "whole"))
    killed = run(first, server, url)
    # when something of a trial has arrived
    wait_for(
        lambda: any(key.startswith("trials/") for key in studies.sizes()), seconds=120, every=0.2
    )
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    resumed = run(last, server, url, "sync.take_over=true")
    _, said = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, said
    never_killed = run(whole, server)
    _, said = never_killed.communicate(timeout=300)
    assert never_killed.returncode == 0, said
    assert story(study(last)) == story(study(whole))


def test_a_store_that_takes_requests_and_never_answers_stops_no_sweep(
    server: dict[str, str], tmp_path: Path
) -> None:
    project = machine(tmp_path / "project")
    begun = run(project, server, "sweep.n_trials=1")
    begun.communicate(timeout=300)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        account = {**server, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        command = run(project, account, "sweep.n_trials=2", "sync.to=s3://flowers/silent")
        out, said = command.communicate(timeout=500)
    assert command.returncode == 0, said
    assert "the bucket is tried again" in said
    assert "files are missing there. Send them: python -m flowersweep sync" in said
    assert "trial" in out


def test_a_study_goes_from_machine_to_machine_through_s3(bucket: Bucket, tmp_path: Path) -> None:
    folders = [tmp_path / name / "studies" / "roses" for name in "abc"]
    for number, folder in enumerate(folders):
        ownership = Ownership(bucket, folder.parents[1])
        ownership.take(by_force=False)  # the one before ended in order
        restore(bucket, folder)
        with Journal(folder / "journal.jsonl") as journal:
            if not number:
                append(journal, "study_started")
            run_trials(journal, 3)
            mirror = Mirror(journal, bucket, ownership, "s3://flowers")
            while mirror.step():
                pass
        ownership.end()
    ended = [line for line in lines(folders[-1]) if line["event"] == "trial_ended"]
    assert len(ended) == 9
    assert (folders[-1] / "trials" / "2" / "weights.npz").read_text() == "2"
    assert [key for key in bucket.sizes() if key.startswith("manifest")] == ["manifest-000003.json"]
