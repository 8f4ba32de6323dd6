"""One machine at a time writes a study in a bucket."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flowersweep.bucket import ownership as ownerships
from flowersweep.bucket.mirror import Mirror
from flowersweep.bucket.ownership import Ownership
from flowersweep.bucket.restore import restore
from flowersweep.bucket.store import Folder
from flowersweep.errors import StudyError
from flowersweep.study.journal import Journal
from tests.events import append, lines


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A bucket whose owners count as dead after half a second."""
    for name, seconds in {"SIGN_S": 0.05, "SILENT_S": 0.5, "LOOK_S": 0.02}.items():
        monkeypatch.setattr(ownerships, name, seconds)
    return Folder(tmp_path / "bucket")


def test_a_study_that_another_machine_runs_is_refused_and_the_message_says_how_to_take_over(
    bucket: Folder, tmp_path: Path
) -> None:
    first, second = Ownership(bucket, tmp_path / "a"), Ownership(bucket, tmp_path / "b")
    first.take(by_force=False)
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.06):
            first.sign()

    living = threading.Thread(target=live)
    living.start()
    try:
        with pytest.raises(StudyError, match=r"being run by process \d+ on .*sync.take_over=true"):
            second.take(by_force=False)
        assert second.number == 0
        second.take(by_force=True)
    finally:
        over.set()
        living.join()
    with pytest.raises(StudyError, match="has taken the study over"):
        first.check(bucket.sizes())


def test_a_machine_that_gave_no_sign_is_followed_by_the_next(
    bucket: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Ownership(bucket, tmp_path / "a").take(by_force=False)
    second = Ownership(bucket, tmp_path / "b")
    second.take(by_force=False)
    assert second.number == 2
    assert "waiting up to" in caplog.text
    assert "sync.take_over=true" in caplog.text


def test_who_ended_in_order_or_is_this_project_itself_is_followed_at_once(
    bucket: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownerships, "SILENT_S", 1000.0)
    first = Ownership(bucket, tmp_path / "a")
    first.take(by_force=False)
    again = Ownership(bucket, tmp_path / "a")  # the same command, after a kill
    again.take(by_force=False)
    again.end()
    Ownership(bucket, tmp_path / "b").take(by_force=False)


def test_of_two_that_begin_at_the_same_moment_one_is_refused(
    bucket: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Ownership(bucket, tmp_path / "a"), Ownership(bucket, tmp_path / "b")
    create = bucket.create

    def late(key: str, content: bytes) -> bool:
        monkeypatch.setattr(bucket, "create", create)
        first.take(by_force=False)
        return create(key, content)

    monkeypatch.setattr(bucket, "create", late)
    with pytest.raises(StudyError, match="at the same moment"):
        second.take(by_force=False)


def test_an_owner_whose_record_was_cut_off_counts_as_dead_after_its_silence(
    bucket: Folder, tmp_path: Path
) -> None:
    bucket.write("owner-000007.json", b'{"proj')
    ownership = Ownership(bucket, tmp_path / "a")
    ownership.take(by_force=False)
    assert ownership.number == 8


def test_what_a_machine_writes_after_it_was_replaced_is_not_read(
    bucket: Folder, tmp_path: Path
) -> None:
    dirs = [tmp_path / "a", tmp_path / "b"]
    paths = [dir / "studies" / "flowers" / "journal.jsonl" for dir in dirs]
    with Journal(paths[0]) as journal:
        append(journal, "study_started")
        first = Ownership(bucket, dirs[0])
        first.take(by_force=False)
        mirror = Mirror(journal, bucket, first, "file://bucket")
        mirror.step()
        restore(bucket, paths[1].parent)
        with Journal(paths[1]) as other:
            second = Ownership(bucket, dirs[1])
            second.take(by_force=True)
            append(other, "study_resumed", command="of the second")
            Mirror(other, bucket, second, "file://bucket").step()
        append(journal, "study_resumed", command="of the first")
        with pytest.raises(StudyError, match="has taken the study over"):
            mirror.step()
        # a request that was under way when the machine was cut off
        bucket.write("manifest-000001.json", b"late")
    third = tmp_path / "c" / "studies" / "flowers"
    restore(bucket, third)
    assert lines(third)[-1]["command"] == "of the second"
