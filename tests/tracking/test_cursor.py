"""How far a journal was shipped is remembered, and believed only of the same store and journal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowersweep.study.journal import Journal
from flowersweep.tracking.cursor import Cursor, read
from tests.events import append

ids = st.text("0123456789abcdef", min_size=1, max_size=32)
runs = st.dictionaries(st.one_of(st.none(), st.integers(0, 999)), ids, max_size=4)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of two events."""
    path = tmp_path_factory.mktemp("studies") / "flowers" / "journal.jsonl"
    with Journal(path) as writer:
        append(writer, "study_started")
        append(writer, "study_stopped", state="finished")
    return path


def begun(journal: Path) -> float:
    with Journal(journal) as writer:
        return writer.events[0].time


@given(store=st.text(max_size=20), runs=runs, data=st.data())
def test_a_cursor_is_read_as_it_was_written_less_the_runs_of_trials_that_ended(
    journal: Path, store: str, runs: dict[int | None, str], data: st.DataObject
) -> None:
    trials = [trial for trial in runs if trial is not None]
    running = data.draw(st.sets(st.sampled_from(trials)) if trials else st.just(set()))
    path = journal.with_name("shipped.json")
    Cursor(store, begun(journal), journal.stat().st_size, runs).write(path, running)
    expected = {trial: run for trial, run in runs.items() if trial is None or trial in running}
    assert read(path, store, journal) == Cursor(
        store, begun(journal), journal.stat().st_size, expected
    )
    assert read(path, f"{store} of another", journal) == Cursor(f"{store} of another")


@given(offset=st.integers(-9, 10**4))
def test_a_cursor_that_stands_within_a_line_is_not_believed(journal: Path, offset: int) -> None:
    path, content = journal.with_name("shipped.json"), journal.read_bytes()
    Cursor("here", begun(journal), offset).write(path, ())
    between_lines = offset > 0 and content[offset - 1 : offset] == b"\n"
    assert read(path, "here", journal).offset == (offset if between_lines else 0)
