"""A file is whole or it is what it was before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowersweep.errors import StudyError
from flowersweep.study.journal import Journal
from flowersweep.util.files import (
    atomic_write,
    move,
    open_private,
    require_no_links,
    write_bytes,
)
from tests.conftest import environment
from tests.events import append


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"before")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"after", "a bug"])  # type: ignore[list-item]
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == [("file", b"before")]


def test_a_reader_sees_one_whole_file_while_many_write(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([65 + n]) * 10_000 for n in range(4)]
    write_bytes(path, contents[0])
    writers = [
        threading.Thread(
            target=lambda own=own: [write_bytes(path, own, durable=False) for _ in range(50)]
        )
        for own in contents
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in contents
    assert [left.name for left in tmp_path.iterdir()] == ["file"]


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"before")
    script = (
        "import os, pathlib, signal, sys\nfrom flowersweep.util.files import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])) as file:\n    file.write(b'half'); "
        "file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(path)], env=environment(), timeout=60, check=False
    )
    assert run.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"before"


def test_file_and_folder_are_on_disk_before_a_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def watched(handle: int) -> None:
        synced.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        sync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    write_bytes(tmp_path / "file", b"content")
    assert synced == ["file", "folder"]
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "inner").write_bytes(b"content")
    synced.clear()
    move(tmp_path / "made", tmp_path / "moved")
    assert (sorted(synced), (tmp_path / "moved" / "inner").read_bytes()) == (
        ["file", "folder", "folder"],
        b"content",
    )


def test_the_folders_of_a_file_are_on_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = [], os.fsync

    def watched(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        sync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    write_bytes(tmp_path / "a" / "b" / "file", b"content")
    assert synced[:2] == [tmp_path, tmp_path / "a"]
    assert synced[-1] == tmp_path / "a" / "b"
    synced.clear()
    with Journal(tmp_path / "studies" / "s" / "journal.jsonl") as journal:
        append(journal, "study_started")
    folders = [tmp_path, tmp_path / "studies", tmp_path / "studies" / "s"]
    assert {*folders, journal.path} <= {*synced}


def test_a_file_is_for_the_user_alone_unless_it_is_asked_for(tmp_path: Path) -> None:
    write_bytes(tmp_path / "mine", b"x")
    write_bytes(tmp_path / "shared", b"x", private=False)
    with open_private(tmp_path / "log") as file:
        file.write(b"x")
    os.umask(umask := os.umask(0o077))
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"mine": 0o600, "shared": 0o666 & ~umask, "log": 0o600}


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("theirs")
    (tmp_path / "log").symlink_to(tmp_path / "other")
    open_private(tmp_path / "log").close()
    assert (tmp_path / "other").read_text() == "theirs"


def test_a_link_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    require_no_links(tmp_path)
    (tmp_path / "a" / "b" / "link").symlink_to("/nowhere")
    with pytest.raises(StudyError, match="b/link is a link"):
        require_no_links(tmp_path)
    with pytest.raises(StudyError, match="b/link is a link"):
        require_no_links(tmp_path / "a" / "b" / "link")
