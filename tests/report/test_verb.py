"""``report`` from the command line, and at the end of a sweep."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flowersweep.__main__ import main
from flowersweep.cli.run import _page
from flowersweep.config.compose import compose
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
    _page(config)
    assert "mlruns/studies/first/report.html" in capsys.readouterr().out
    (studies / "first" / "journal.jsonl").write_text('{"event":"study_started","format":1}\n')
    with caplog.at_level(logging.WARNING):
        _page(config)
    assert "no report was written" in caplog.text
    assert "report study=first" in caplog.text
