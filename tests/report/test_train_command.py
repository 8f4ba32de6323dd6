"""The command on the page trains the best trial again, to the last digit."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from flowersweep.report.study_view import load_study
from flowersweep.report.summary import train_command
from tests.conftest import TINY
from tests.kills import Fork

SAME = [
    "+sweep=quick",
    "sweep.space.learning_rate.values='choice(0.003)'",
    "sweep.n_trials=4",
    "seed=1",
    "tracking.enabled=false",
]


@pytest.mark.slow
def test_the_command_of_the_page_gives_exactly_the_numbers_of_the_best_trial(
    project: Path, fork: Fork
) -> None:
    swept = fork(project, [*SAME, *TINY, "study=same"])
    assert swept.returncode == 0, swept.stderr
    assert "holdout/macro_f1" not in swept.stdout
    study = load_study(project / "mlruns" / "studies" / "same")
    assert study.best is not None
    assert study.best.seed is not None  # of its own: the four trials are one configuration
    words = train_command(study)
    assert words is not None
    alone = fork(project, shlex.split(words)[3:])
    assert alone.returncode == 0, alone.stderr
    [folder] = (project / "mlruns" / "studies").glob("train-*")
    [trained] = load_study(folder).records
    assert trained.metrics == study.best.metrics
