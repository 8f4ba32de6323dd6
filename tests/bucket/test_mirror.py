"""A bucket always holds a state that the study was in, whatever is being written meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import pytest

from flowersweep.bucket import mirror as mirrors
from flowersweep.bucket.manifest import Manifest, content_of
from flowersweep.bucket.mirror import Mirror
from flowersweep.bucket.ownership import Ownership
from flowersweep.bucket.restore import restore
from flowersweep.bucket.store import Folder, open_bucket
from flowersweep.errors import BucketError, StudyError
from flowersweep.study.journal import Journal
from flowersweep.util.files import write_bytes
from tests.events import append, lines


def owned(bucket: Folder, dir: Path) -> Ownership:
    ownership = Ownership(bucket, dir)
    ownership.take(by_force=True)
    return ownership


def journal_in(dir: Path) -> Journal:
    return Journal(dir / "studies" / "flowers" / "journal.jsonl")


def send(dir: Path, bucket: Folder) -> None:
    with journal_in(dir) as journal:
        mirror = Mirror(journal, bucket, owned(bucket, dir), "file://bucket")
        while mirror.step():
            pass


class WatchedFolder(Folder):
    """A bucket that is looked at after each of its changes, as if the sender had died there."""

    def __init__(self, root: Path, look: Callable[[], None]) -> None:
        super().__init__(root)
        self.look = look

    def write(self, key: str, content: bytes) -> None:
        super().write(key, content)
        self.look()

    def upload(self, key: str, file: IO[bytes], on_chunk: Callable[[], None]) -> None:
        super().upload(key, file, on_chunk)
        self.look()

    def remove(self, keys: Iterable[str]) -> None:
        for key in [*keys]:
            super().remove([key])
            self.look()


def run_trials(journal: Journal, trials: int) -> None:
    """Write as a study does: files before the event that needs them, and what is needed no more
    goes after it.
    """
    folder = journal.path.parent
    for number in range(trials):
        write_bytes(folder / "checkpoints" / "0.npz", str(number).encode(), durable=False)
        weights = folder / "trials" / str(number) / "weights.npz"
        write_bytes(weights, str(number).encode(), durable=False)
        append(journal, "trial_ended", trial=number, state="complete", value=0.5)
        if number:
            (folder / "trials" / str(number - 1) / "weights.npz").unlink()


def test_whenever_the_sender_dies_the_bucket_holds_a_state_that_the_study_was_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "PART", 1000)  # a journal of several parts
    looks: set[int] = set()

    def look() -> None:
        copy = tmp_path / f"look{len(looks)}" / "studies" / "flowers"
        if not restore(Folder(tmp_path / "bucket"), copy):
            return
        ended = len([line for line in lines(copy) if line["event"] == "trial_ended"])
        looks.add(ended)
        if ended:
            assert (copy / "trials" / str(ended - 1) / "weights.npz").read_text() == str(ended - 1)
            assert int((copy / "checkpoints" / "0.npz").read_text()) in (ended - 1, ended)

    bucket = WatchedFolder(tmp_path / "bucket", look)
    with journal_in(tmp_path / "a") as journal:
        append(journal, "study_started")
        mirror = Mirror(journal, bucket, owned(bucket, tmp_path / "a"), "file://bucket")
        writer = threading.Thread(target=run_trials, args=(journal, 120))
        writer.start()
        while mirror.step() or writer.is_alive():
            pass
        writer.join()
        while mirror.step():
            pass
        last = journal.path.read_bytes()
    assert len(looks) > 3, "the study was not looked at while it was written"
    assert restore(Folder(tmp_path / "bucket"), tmp_path / "b" / "studies" / "flowers")
    assert (tmp_path / "b" / "studies" / "flowers" / "journal.jsonl").read_bytes() == last
    kept = Folder(tmp_path / "bucket").sizes()
    assert len([key for key in kept if key.startswith("trials/")]) <= 4, "old objects are removed"


def test_a_study_with_more_files_than_may_be_open_is_sent_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "MOST_OPEN", 3)
    folder = tmp_path / "a" / "studies" / "flowers"
    for number in range(20):
        write_bytes(folder / "trials" / str(number) / "logits.npz", b"logits", durable=False)
    with journal_in(tmp_path / "a") as journal:
        append(journal, "study_started")
    send(tmp_path / "a", Folder(tmp_path / "bucket"))
    copy = tmp_path / "b" / "studies" / "flowers"
    assert restore(Folder(tmp_path / "bucket"), copy)
    assert len([*copy.glob("trials/*/logits.npz")]) == 20


def test_an_object_that_was_lost_or_sent_by_half_is_sent_again(tmp_path: Path) -> None:
    bucket = Folder(tmp_path / "bucket")
    with journal_in(tmp_path / "a") as journal:
        append(journal, "study_started")
        run_trials(journal, 1)
        mirror = Mirror(journal, bucket, owned(bucket, tmp_path / "a"), "file://bucket")
        while mirror.step():
            pass
        keys = {key.split("/")[0]: key for key in bucket.sizes()}
        bucket.remove([keys["journal"]])
        bucket.write(keys["trials"], b"")
        while mirror.step():
            pass
    assert restore(bucket, tmp_path / "b" / "studies" / "flowers")


def test_links_are_not_sent(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "studies" / "flowers"
    with journal_in(tmp_path / "a") as journal:
        append(journal, "study_started")
    (tmp_path / "secret").write_text("swordfish")
    for name in ("trials/0/logits.npz", "trials/0/.hidden.npz", "notes.txt", "shipped.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(StudyError, match="is a link"):
        send(tmp_path / "a", Folder(tmp_path / "bucket"))
    sent = b"".join(path.read_bytes() for path in (tmp_path / "bucket").rglob("*.*"))
    assert b"swordfish" not in sent


def test_a_folder_that_is_behind_the_bucket_is_replaced_and_one_that_is_ahead_stays(
    tmp_path: Path,
) -> None:
    bucket, other = Folder(tmp_path / "bucket"), tmp_path / "b" / "studies" / "flowers"
    with journal_in(tmp_path / "a") as journal:
        append(journal, "study_started")
        run_trials(journal, 1)
    send(tmp_path / "a", bucket)
    assert restore(bucket, other)
    with journal_in(tmp_path / "b") as journal:
        append(journal, "study_resumed")
    assert not restore(bucket, other), "it is ahead"
    send(tmp_path / "b", bucket)
    first = tmp_path / "a" / "studies" / "flowers"
    with (first / "journal.jsonl").open("ab") as file:
        file.write(b'{"event":"study_res')  # of a command that was killed
    assert restore(bucket, first)
    assert (first / "journal.jsonl").read_bytes() == (other / "journal.jsonl").read_bytes()


def test_studies_that_went_different_ways_are_refused(tmp_path: Path) -> None:
    bucket = Folder(tmp_path / "bucket")
    for name in ("a", "b"):
        with journal_in(tmp_path / name) as journal:
            append(journal, "study_started")
            append(journal, "study_resumed", command=name)
    send(tmp_path / "a", bucket)
    folder = tmp_path / "b" / "studies" / "flowers"
    before = (folder / "journal.jsonl").read_bytes()
    with pytest.raises(StudyError, match=r"different ways.*move this folder away"):
        restore(bucket, folder)
    with pytest.raises(StudyError, match="different ways"):
        send(tmp_path / "b", bucket)
    assert (folder / "journal.jsonl").read_bytes() == before


FOREIGN = [
    "../outside.npz",
    "/tmp/outside.npz",
    "trials/0/../../../outside.npz",
    "trials/0/logits.npz\n",
    "trials\\0\\logits.npz",
    "journal.jsonl",
    "lock",
    ".hidden",
    "conf/model/evil.yaml",
    "trials/0/evil.py",
    "trials/0/sitecustomize.pyc",
    "",
]


def write_manifest(bucket: Folder, files: dict[str, Any]) -> None:
    text = json.dumps({"format": 1, "journal": [], "files": files})
    bucket.write("manifest-000001.json", text.encode())


@pytest.mark.parametrize("name", FOREIGN)
def test_a_name_that_is_no_file_of_a_study_is_refused(tmp_path: Path, name: str) -> None:
    bucket = Folder(tmp_path / "bucket")
    write_manifest(bucket, {name: {"bytes": 1, "sha256": "0" * 64}})
    before = {*tmp_path.rglob("*")}
    with pytest.raises(BucketError, match="no file of a study"):
        restore(bucket, tmp_path / "b" / "studies" / "flowers")
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b'{"format": 1}',
        b'{"format": 1, "journal": [{"bytes": "1", "sha256": "../x"}], "files": {}}',
        b'{"format": 1, "journal": [], "files": {"trials/0/logits.npz": {"bytes": -1}}}',
        b'{"format": 2, "journal": [], "files": {}}',
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, text: bytes) -> None:
    bucket = Folder(tmp_path / "bucket")
    bucket.write("manifest-000001.json", text)
    with pytest.raises(BucketError):
        restore(bucket, tmp_path / "b" / "studies" / "flowers")


def sent_study(tmp_path: Path) -> Folder:
    bucket = Folder(tmp_path / "bucket")
    with journal_in(tmp_path / "a") as journal:
        append(journal, "study_started")
        run_trials(journal, 1)
    send(tmp_path / "a", bucket)
    return bucket


@pytest.mark.parametrize("kind", ["journal/", "trials/"])
def test_an_object_that_somebody_changed_is_refused_and_nothing_is_restored(
    tmp_path: Path, kind: str
) -> None:
    bucket = sent_study(tmp_path)
    key = next(key for key in bucket.sizes() if key.startswith(kind))
    content = bytearray(bucket.read(key))
    content[0] ^= 1
    bucket.write(key, bytes(content))
    with pytest.raises(BucketError, match="damaged"):
        restore(bucket, tmp_path / "b" / "studies" / "flowers")
    assert not (tmp_path / "b" / "studies" / "flowers").exists()


def test_a_link_in_a_bucket_is_not_followed(tmp_path: Path) -> None:
    bucket = sent_study(tmp_path)
    (tmp_path / "secret").write_text("swordfish")
    with (tmp_path / "secret").open("rb") as file:
        content = content_of(file)
    key = content.key("trials/0/logits.npz")
    (tmp_path / "bucket" / key).symlink_to(tmp_path / "secret")
    manifest = Manifest(files={"trials/0/logits.npz": content})
    bucket.write("manifest-000009.json", manifest.to_json())
    with pytest.raises((BucketError, StudyError), match="link"):
        bucket.read(key)
    with pytest.raises(BucketError, match="link"):
        bucket.write(key, b"")
    assert key not in bucket.sizes()


def test_a_key_cannot_leave_the_folder_of_its_bucket(tmp_path: Path) -> None:
    bucket = Folder(tmp_path / "bucket")
    for key in ("../outside", "trials/../../outside", str(tmp_path / "outside")):
        with pytest.raises(BucketError):
            bucket.write(key, b"")
    assert not (tmp_path / "outside").exists()


def test_a_bucket_holds_several_studies_side_by_side(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket/"
    open_bucket(url, "roses").write("clock", b"")
    assert open_bucket(url, "tulips").sizes() == {}
