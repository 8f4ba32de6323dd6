"""A bar is a line that is rewritten on a terminal, and lines of their own elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from flowersweep.session import progress
from flowersweep.session.progress import LogBar, Progress


def test_a_log_file_gets_whole_lines_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    log = io.StringIO()
    bar = LogBar(total=100, desc="features", unit=" images", miniters=0, file=log)
    monkeypatch.setattr(bar, "_time", lambda: clock[0])
    bar.start_t = bar.last_print_t = 0.0
    for n in range(100):
        clock[0] = float(n)
        bar.update(1)
    bar.close()
    lines = log.getvalue().splitlines()
    assert "\r" not in log.getvalue()
    assert lines[0].startswith("features: 0/100 images")
    assert lines[-1].startswith("features: 100/100 images")
    assert len(lines) == 1 + 99 // progress.LOG_INTERVAL + 1
    assert all(line.startswith("features: ") for line in lines)


def test_several_bars_stay_apart_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    shown = Progress(True)
    for what in ("features of train", "features of val"):
        for done in (1, 2, 3):
            shown.features(what, done, 3)
    shown.close()
    shown.close()
    shown.features("images", 1, None)
    shown.close()
    lines = log.getvalue().splitlines()
    assert [line.partition(" images [")[0] for line in lines if line] == [
        "features of train: 0/3",
        "features of train: 3/3",
        "features of val: 0/3",
        "features of val: 3/3",
        "images: 0",
        "images: 1",
    ]


def test_a_terminal_gets_one_line_that_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    shown = Progress(True)
    for done in range(50):
        shown.features("images", done, 50)
    shown.close()
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().count("\r") >= 2


def test_nothing_is_written_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(False)
    shown.features("images", 1, 2)
    shown.close()
    assert capsys.readouterr().err == ""
