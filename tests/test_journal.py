"""The journal: whole lines or none, one writer, and a full disk that costs nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flowersweep.errors import StudyError
from flowersweep.study.journal import Journal, read_events


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "journal.jsonl"


def names(path: Path) -> list[str]:
    return [event["event"] for event in read_events(path)[0]]


def test_a_torn_last_line_is_cut_off_and_the_rest_kept(path: Path) -> None:
    with Journal(path) as journal:
        journal.append("one", value=0.1)
        journal.append("two")
    for torn in (b'{"event":"thr', b"\x00\x00", b'{"event":"three"}'):  # the last has no end of line: it may be half a number
        with path.open("ab") as file:
            file.write(torn)
        assert names(path) == ["one", "two"]
        with Journal(path) as journal:
            assert [event["event"] for event in journal.events] == ["one", "two"]
    with Journal(path) as journal:
        journal.append("three")
    assert names(path) == ["one", "two", "three"]


def test_a_broken_line_in_the_middle_is_an_error(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"event": "one"}\n{"event\n{"event": "three"}\n')
    with pytest.raises(StudyError, match="is damaged"):
        read_events(path)


def test_reading_goes_on_from_an_offset(path: Path) -> None:
    with Journal(path) as journal:
        journal.append("one")
        _, offset = read_events(path)
        journal.append("two")
    assert [event["event"] for event in read_events(path, offset)[0]] == ["two"]


def test_a_long_journal_is_read_in_pieces_of_whole_events(path: Path) -> None:
    with Journal(path) as journal:
        for number in range(20):
            journal.append("one", number=number, text="x" * (1 + 97 * (number % 3)))
    found, offset = [], 0
    while events_and_offset := read_events(path, offset, 150):
        events, offset = events_and_offset
        if not events:
            break
        assert len(events) <= 3
        found += events
    assert [event["number"] for event in found] == [*range(20)]
    assert offset == path.stat().st_size


def test_numbers_come_back_to_the_last_bit(path: Path) -> None:
    values = [0.1, 1 / 3, 1e-300, 123456789.123456789]
    with Journal(path) as journal:
        journal.append("one", values=values)
    assert read_events(path)[0][0]["values"] == values


def test_a_number_that_is_not_finite_is_refused(path: Path) -> None:
    with Journal(path) as journal, pytest.raises(ValueError, match="not JSON compliant"):
        journal.append("one", value=float("nan"))


def test_a_full_disk_is_said_and_costs_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if len(data) > 5:
            return pwrite(file, data[:5], offset)  # some of it still fits
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(path) as journal:
        journal.append("one")
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(StudyError, match=r"No space left on device. Make room and run the same command again"):
            journal.append("two")
        monkeypatch.undo()
        assert names(path) == ["one"]
        journal.append("two again")
    assert names(path) == ["one", "two again"]
