"""A lock is held by one process, until it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from flowersweep.errors import StudyError
from flowersweep.study.journal import Journal
from flowersweep.util.locks import take_lock


def test_the_second_is_told_that_another_holds_the_lock(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as first, (tmp_path / "lock").open("a") as second:
        assert take_lock(first)
        assert not take_lock(second)
        first.close()
        assert take_lock(second)


def test_a_file_system_without_locks_is_refused_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)  # as NFS without a lock daemon
    with pytest.raises(StudyError, match=r"cannot lock files \(No locks available\).*dir=PATH"):
        Journal(tmp_path / "study" / "journal.jsonl")
