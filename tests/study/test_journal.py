"""The journal: whole lines or none, one writer, and a full disk that costs nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowersweep.errors import StudyError
from flowersweep.study.events import (
    KINDS,
    Epoch,
    Event,
    ImportedTrial,
    MachineSampled,
    StudyStopped,
    TrialEnded,
    from_json,
    to_json,
)
from flowersweep.study.journal import Journal, lock_holder, read_events, sealed
from tests.events import append, event


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "journal.jsonl"


def stop(journal: Journal, state: str) -> None:
    if not journal.events:
        append(journal, "study_started")
    append(journal, "study_stopped", state=state)


def names(path: Path) -> list[str]:
    return [stopped.state for stopped in read_events(path)[0] if isinstance(stopped, StudyStopped)]


def test_a_torn_last_line_is_cut_off_and_the_rest_kept(path: Path) -> None:
    with Journal(path) as journal:
        stop(journal, "one")
        stop(journal, "two")
    # the last has no end of line: it may be half a number
    for torn in (b'{"event":"thr', b"\x00\x00", b'{"event":"three"}'):
        with path.open("ab") as file:
            file.write(torn)
        assert names(path) == ["one", "two"]
        with Journal(path) as journal:
            assert len(journal.events) == 3
    with Journal(path) as journal:
        stop(journal, "three")
    assert names(path) == ["one", "two", "three"]


def test_a_broken_line_in_the_middle_is_an_error(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(
        '{"event": "study_started", "format": 1}\n{"event\n{"event": "study_stopped"}\n'
    )
    with pytest.raises(StudyError, match="is damaged"):
        read_events(path)


def damage(lines: list[bytes]) -> dict[str, tuple[list[bytes], str]]:
    """Return a journal of four lines with something wrong, and what is said of it."""
    one, two, three, four = lines
    return {
        "the first line is gone": ([two, three, four], "line 1.*event 0 is missing"),
        "a line is gone": ([one, two, four], "line 3.*event 2 is missing"),
        "lines changed places": ([one, three, two, four], "line 2.*event 1 is missing"),
        "a line is there twice": ([one, two, two, three], "line 3"),
        "a digit is another": ([one, two.replace(b"0.5", b"0.4"), three], "line 2.*checksum"),
        "the last is another": ([one, two, three, four.replace(b"b", b"c")], "line 4.*checksum"),
        "a checksum is another": ([one, two[:-4] + b"x}\n", three], "line 2"),
        "a checksum is gone": ([one, b'{"event":"study_stopped","state":"a"}\n'], "line 2.*'n'"),
        "a line is half": ([one, two[:30] + b"\n", three], "line 2"),
        "a line is a number": ([one, b"5\n", three], "line 2"),
    }


@pytest.mark.parametrize("name", damage([b""] * 4))
def test_a_damaged_or_missing_line_is_named_with_what_to_do(path: Path, name: str) -> None:
    with Journal(path) as journal:
        append(journal, "study_started")
        append(journal, "machine_sampled", metrics={"a": 0.5})
        append(journal, "study_stopped", state="a")
        append(journal, "study_stopped", state="b")
    lines, message = damage(path.read_bytes().splitlines(keepends=True))[name]
    path.write_bytes(b"".join(lines))
    with pytest.raises(StudyError, match=f"{message}.*study=NAME"):
        Journal(path)


def test_each_flipped_bit_is_noticed(path: Path) -> None:
    with Journal(path) as journal:
        stop(journal, "one")
        stop(journal, "two")
    whole, events = path.read_bytes(), read_events(path)[0]
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = read_events(path)[0]
        except StudyError:
            continue
        assert found == events[: len(found)]
        assert place == len(whole) - 1, "only the end of the last line can be torn"


def test_a_last_line_that_a_power_cut_left_full_of_zeros_is_cut_off(path: Path) -> None:
    with Journal(path) as journal:
        stop(journal, "one")
        stop(journal, "two")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + bytes(20) + whole[-10:])
    assert names(path) == ["one"]
    with Journal(path) as journal:
        stop(journal, "again")
    assert names(path) == ["one", "again"]


def test_a_journal_without_checksums_goes_on_with_them(path: Path) -> None:
    path.parent.mkdir()
    old = [event("study_started"), event("study_stopped", state="one")]
    path.write_text("".join(json.dumps(to_json(each)) + "\n" for each in old))
    with Journal(path) as journal:
        stop(journal, "two")
    assert names(path) == ["one", "two"]


def test_reading_goes_on_from_an_offset(path: Path) -> None:
    with Journal(path) as journal:
        stop(journal, "one")
        _, offset = read_events(path)
        stop(journal, "two")
    assert [stopped.state for stopped in read_events(path, offset)[0]] == ["two"]


def test_a_long_journal_is_read_in_pieces_of_whole_events(path: Path) -> None:
    with Journal(path) as journal:
        append(journal, "study_started")
        for number in range(20):
            append(
                journal,
                "trial_ended",
                trial=number,
                state="failed",
                reason="x" * (1 + 97 * (number % 3)),
            )
    found, offset = [], 0
    while events_and_offset := read_events(path, offset, 250):
        events, offset = events_and_offset
        if not events:
            break
        assert len(events) <= 3
        found += events
    assert [ended.trial for ended in found if isinstance(ended, TrialEnded)] == [*range(20)]
    assert offset == path.stat().st_size


def test_numbers_come_back_to_the_last_bit(path: Path) -> None:
    values = {"a": 0.1, "b": 1 / 3, "c": 1e-300, "d": 123456789.123456789}
    with Journal(path) as journal:
        append(journal, "study_started")
        append(journal, "machine_sampled", metrics=values)
    sampled = read_events(path)[0][1]
    assert isinstance(sampled, MachineSampled)
    assert sampled.metrics == values


def test_a_number_that_is_not_finite_is_refused(path: Path) -> None:
    with Journal(path) as journal, pytest.raises(ValueError, match="not JSON compliant"):
        append(journal, "machine_sampled", metrics={"a": float("nan")})


def test_a_full_disk_is_said_and_costs_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if len(data) > 5:
            return pwrite(file, data[:5], offset)  # some of it still fits
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(path) as journal:
        stop(journal, "one")
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(
            StudyError, match=r"No space left on device. Make room and run the same command again"
        ):
            stop(journal, "two")
        monkeypatch.undo()
        assert names(path) == ["one"]
        stop(journal, "two again")
    assert names(path) == ["one", "two again"]


@pytest.mark.usefixtures("plain_signals")
def test_ctrl_c_between_writing_a_line_and_remembering_it_loses_nothing_that_a_reader_saw(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def interrupted(file: int) -> None:
        sync(file)
        assert names(path)[-1] == "two"  # a reader has it
        signal.raise_signal(signal.SIGINT)

    with Journal(path) as journal:
        stop(journal, "one")
        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stop(journal, "two")
        monkeypatch.undo()
        stop(journal, "three")
    assert names(path) == ["one", "two", "three"]


def test_who_only_looks_at_the_lock_never_refuses_a_writer(path: Path) -> None:
    with Journal(path) as journal:
        stop(journal, "one")
    looking = threading.Event()
    reader = threading.Thread(
        target=lambda: [lock_holder(path.parent) for _ in iter(lambda: looking.is_set(), True)]
    )
    reader.start()
    try:
        for _ in range(200):
            with Journal(path):
                pass
    finally:
        looking.set()
        reader.join()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"event": "study", "time": 1.0}, r"before 0\.2.*Start a new study"),
        ({"event": "study_started", "format": 2}, "pip install -U flowersweep"),
    ],
)
def test_a_journal_of_another_format_is_refused_with_what_to_do(
    path: Path, line: dict[str, Any], told: str
) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(StudyError, match=told):
        read_events(path)


def test_an_event_that_this_version_does_not_know_is_refused(path: Path) -> None:
    with Journal(path) as journal:
        stop(journal, "one")
    with path.open("ab") as file:
        file.write(sealed(b'{"event":"trial_dreamt","n":2}'))
    with pytest.raises(
        StudyError,
        match=r"'trial_dreamt' that this version does not know.*pip install -U flowersweep",
    ):
        read_events(path)


texts, numbers = st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False)
metrics = st.dictionaries(texts, numbers, max_size=3)
maybe = partial(st.one_of, st.none())
epochs = st.lists(st.builds(Epoch, st.integers(1, 99), numbers, metrics), max_size=3)
imported = st.lists(
    st.builds(
        ImportedTrial, texts, metrics, texts, numbers, metrics, st.dictionaries(texts, numbers)
    ),
    max_size=2,
)
plain = st.dictionaries(
    texts, st.one_of(texts, numbers, st.booleans(), st.integers(), st.none()), max_size=3
)
FIELDS = {
    "time": numbers,
    "elapsed": numbers,
    "epochs": epochs,
    "imported": imported,
    "metrics": metrics,
    "attributes": maybe(plain),
    "overrides": st.lists(texts, max_size=3),
    "direction": st.sampled_from(["minimize", "maximize"]),
    **dict.fromkeys(
        ("trial", "seed", "n_trials", "trials", "programs", "format"), st.integers(0, 10**6)
    ),
    **dict.fromkeys(("repeats", "logical_time", "worker", "best"), maybe(st.integers(0, 10**6))),
    **dict.fromkeys(("params", "settings", "config", "space", "provenance", "hyperband"), plain),
    **dict.fromkeys(("value", "minutes"), numbers),
    "pruned": maybe(st.booleans()),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(data=st.data())
def test_every_event_is_the_same_after_a_line_of_the_journal(
    kind: type[Event], data: st.DataObject
) -> None:
    strategies = {**FIELDS, "attributes": plain} if kind is TrialEnded else FIELDS
    content = {
        field.name: data.draw(strategies.get(field.name, texts), label=field.name)
        for field in fields(kind)
    }
    before = kind(**content)
    assert from_json(json.loads(json.dumps(to_json(before)))) == before


def test_a_study_is_readable_by_its_user_alone(path: Path) -> None:
    with Journal(path) as journal:
        stop(journal, "finished")
    modes = {name: (path.parent / name).stat().st_mode & 0o777 for name in (".", "lock", path.name)}
    assert modes == {".": 0o700, "lock": 0o600, path.name: 0o600}


@pytest.mark.parametrize("name", ["lock", "journal.jsonl", "code.diff"])
def test_a_link_in_a_study_is_not_followed(path: Path, tmp_path: Path, name: str) -> None:
    path.parent.mkdir()
    (tmp_path / "theirs").write_text("")
    (path.parent / name).symlink_to(tmp_path / "theirs")
    with pytest.raises(StudyError, match=f"{name} is a link"):
        Journal(path)
    assert (tmp_path / "theirs").read_text() == ""


def test_a_study_that_is_a_link_is_not_written_to(path: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    path.parent.symlink_to(tmp_path / "theirs")
    with pytest.raises(StudyError, match="study is a link"):
        Journal(path)
    assert not any((tmp_path / "theirs").iterdir())
