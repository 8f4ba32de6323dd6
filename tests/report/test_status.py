"""How far a study is can be asked from another terminal, at once, and without disturbing whoever
runs it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowersweep.__main__ import main
from flowersweep.report.status import line, screen, status
from flowersweep.study.journal import Journal, lock_holder
from tests.conftest import environment
from tests.events import append
from tests.report.made_up import MadeUp, Play, of_all_kinds, smoothed


@pytest.fixture
def studies(project: Path) -> Path:
    return project / "mlruns" / "studies"


def test_one_screen_says_states_best_rate_and_reasons(studies: Path) -> None:
    text = screen(status(of_all_kinds().write(studies)))
    assert "nobody runs it" in text
    assert "3 complete, 1 pruned, 1 failed, 1 interrupted; 6 are wanted" in text
    assert "trial 3, tune/calibrated_nll 0.3000" in text
    assert "rate:       6.12 trials a minute" in text  # five in 49 seconds
    assert " left" not in text
    assert "nan after epoch 2" in text
    assert len(text.splitlines()) < 20


def test_who_runs_it_is_said_and_the_lock_stays_theirs(studies: Path) -> None:
    folder = of_all_kinds().write(studies)
    assert lock_holder(folder) is None
    with Journal(folder / "journal.jsonl") as journal:
        found = status(folder)
        assert found.holder is not None
        assert found.holder.startswith("process ")
        assert "1 running" in found.counts
        assert found.left == pytest.approx(1 / found.rate if found.rate else 0)
        assert "about 10 s left" in screen(found)
        append(journal, "study_stopped", state="interrupted", best=3)
    assert lock_holder(folder) is None
    with Journal(folder / "journal.jsonl"):
        pass  # asking has left no lock behind


def test_the_newest_command_says_how_many_trials_are_wanted(studies: Path) -> None:
    found = status(
        MadeUp([Play(smoothed(0.1, 0.01), 0.3)] * 3, pauses={2: 500.0}, wanted=50).write(studies)
    )
    assert found.wanted == 50
    assert found.rate == pytest.approx(60 / 9)  # the pause, and what was before it, do not count


def test_a_journal_that_is_empty_or_torn_is_a_study_all_the_same(studies: Path) -> None:
    folder = of_all_kinds().write(studies)
    (folder / "journal.jsonl").write_text('{"event":"stu')
    assert "no trial yet" in screen(status(folder))
    assert "its journal is empty" in screen(status(folder))
    assert "wanted" not in screen(status(folder))
    assert "nothing complete" in line(status(folder))
    assert "its journal is empty" in line(status(folder))


def test_a_damaged_study_does_not_hide_the_others(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second", "third"):
        with Journal(studies / name / "journal.jsonl") as journal:
            append(journal, "study_started")
            append(journal, "study_stopped", state="finished")
    path = studies / "second" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"finished", b"finishes"))
    assert main(["status"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert "second/journal.jsonl, line 2 is damaged" in second
    assert "nothing complete" in first
    assert "nothing complete" in third
    assert main(["status", "study=second"]) == 1
    assert main(["sync"]) == 1
    output = capsys.readouterr()
    assert "line 2 is damaged" in output.err
    assert "third: 2 events shipped" in output.out


def test_a_clock_that_was_set_back_counts_no_negative_time(
    studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = of_all_kinds().write(studies)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert "last event 0 s ago" in screen(status(folder))


def test_without_a_name_every_study_gets_a_line(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status"]) == 0
    assert "no studies in mlruns/ yet" in capsys.readouterr().out
    of_all_kinds(name="first").write(studies)
    of_all_kinds(name="second").write(studies)
    assert main(["status"]) == 0
    assert [each.split()[0] for each in capsys.readouterr().out.splitlines()] == ["first", "second"]
    assert main(["status", "study=frist"]) == 1
    assert 'Did you mean "first"?' in capsys.readouterr().err


def test_it_answers_without_heavy_imports(studies: Path) -> None:
    of_all_kinds().write(studies)
    code = (
        "import sys; from flowersweep.__main__ import main; main(['status', 'study=made_up']); "
        "print(*sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert 'study "made_up"' in run.stdout
    assert not {"keras", "jax", "tensorflow", "mlflow", "sklearn", "plotly"} & set(
        run.stdout.split()
    )
