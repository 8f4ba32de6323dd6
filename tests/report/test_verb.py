"""``report`` from the command line, and at the end of a sweep."""

from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path

import pytest

from flowersweep.__main__ import main
from flowersweep.config.compose import compose
from flowersweep.study.records import read_study
from flowersweep.workflows.pages import write_page_of_sweep
from tests.report.made_up import of_all_kinds


@pytest.fixture
def studies(project: Path) -> Path:
    for name in ("first", "second"):
        of_all_kinds(name=name).write(project / "mlruns" / "studies")
    return project / "mlruns" / "studies"


def test_a_report_lies_beside_its_journal_or_where_it_is_wanted(
    studies: Path, project: Path
) -> None:
    before = (studies / "first" / "journal.jsonl").read_bytes()
    assert main(["report", "study=first"]) == 0
    assert "Study first" in (studies / "first" / "report.html").read_text()
    assert main(["report", "study=first", "output=mine.html"]) == 0
    assert (project / "mine.html").exists()
    assert main(["report", "studies=first,second"]) == 0
    assert "Studies first, second" in (project / "mlruns" / "report-first-second.html").read_text()
    assert (studies / "first" / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["report"], ["study=NAME", "first, second"]),
        (["report", "study=frist"], ["frist", 'Did you mean "first"?']),
        (["report", "studies=first,thrid"], ["thrid", "first, second"]),
        (["report", "studies=[../first,second]"], ["../first"]),
        (["report", "study=first", "output=nowhere/x.html"], ["output=nowhere/x.html"]),
    ],
)
def test_a_mistake_is_explained(
    words: list[str], told: list[str], studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    message = capsys.readouterr().err
    assert all(part in message for part in told), message


def test_a_page_that_cannot_be_written_is_a_warning(
    studies: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose(["+sweep=smoothing", "study=first"])
    assert write_page_of_sweep(config) == Path("mlruns/studies/first/report.html")
    (studies / "first" / "journal.jsonl").write_text('{"event":"study_started","format":1}\n')
    with caplog.at_level(logging.WARNING):
        assert write_page_of_sweep(config) is None
    assert "no report was written" in caplog.text
    assert "report study=first" in caplog.text


def test_trials_are_printed_for_people_spreadsheets_and_programs(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trials", "study=first", "format=json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main(["trials", "study=first", "format=csv"]) == 0
    lines = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    records = read_study(studies / "first").trials
    assert [row["trial"] for row in rows] == [record.number for record in records]
    for record, row, line in zip(records, rows, lines, strict=True):
        assert (row["state"], row["value"]) == (record.state, record.value)
        assert line["value"] == ("" if record.value is None else str(record.value))
        assert all(row[name] == value for name, value in record.params.items())
    assert main(["trials", "study=first"]) == 0
    assert capsys.readouterr().out.startswith("trial  state")
    assert main(["trials", "study=first", "format=xml"]) == 1
    assert "must be text or csv or json" in capsys.readouterr().err


def test_the_status_is_printed_for_programs(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "format=json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert [study["study"] for study in both] == ["first", "second"]
    assert main(["status", "study=first", "format=json"]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert best == both[0]["best"]
    assert best["params"]
    assert main(["status", "format=csv"]) == 1
