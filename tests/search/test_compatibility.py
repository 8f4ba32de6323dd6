"""What makes a study another one is refused when it goes on, with the difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.kills import Fork


@pytest.mark.slow
def test_the_same_classes_in_another_order_are_another_study(project: Path, fork: Fork) -> None:
    names = project / "names.txt"
    words = ["+sweep=smoothing", "tracking.enabled=false", f"data.classes={names}", *TINY]
    names.write_text("aster\nbeech\nclover\ndaisy\nelder\n")
    first = fork(project, [*words, "sweep.n_trials=1"])
    assert first.returncode == 0, first.stderr
    names.write_text("beech\naster\nclover\ndaisy\nelder\n")
    refused = fork(project, [*words, "sweep.n_trials=2"])
    assert refused.returncode == 1
    assert "data.class_names: '5 classes, aster to elder" in refused.stderr
    names.write_bytes(b"aster\r\nbeech\r\nclover\r\ndaisy\r\nelder\r\n\r\n")
    again = fork(project, [*words, "sweep.n_trials=2"])
    assert again.returncode == 0, again.stderr
