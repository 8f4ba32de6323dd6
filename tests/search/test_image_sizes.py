"""A sweep that fine-tunes on images that grow: what it plans, whom it lets see large ones, and that a kill changes nothing."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flowersweep.__main__ import main
from flowersweep.config.compose import compose
from flowersweep.study.objectives import training_seconds
from flowersweep.workflows.planning.forecast import make_forecast
from tests.conftest import TINY
from tests.search.conftest import Fork
from tests.search.test_plan import COSTS
from tests.search.test_resume import story

SIZES = ["train=finetune", "train.head_epochs=2", "train.epochs=4", "train.image_sizes=[16,32]"]
WORDS = [
    "+sweep=quick",
    "pruner=successive_halving",
    "sweep.n_trials=4",
    "tracking.enabled=false",
    *TINY,
    *SIZES,
    "train.batch_per_replica=8",
]


def test_a_sweep_prunes_before_the_images_grow_and_killed_on_large_ones_ends_the_same(project: Path, fork: Fork) -> None:
    words = [*WORDS, "train.checkpoint_seconds=0", "train.ema_half_life=0.1"]
    whole = fork(project, [*words, "study=whole"])
    assert whole.returncode == 0, whole.stderr
    assert "0 in the 3 after it" in whole.stdout
    studies = project / "mlruns" / "studies"
    reached = {event["trial"]: event["epochs"][-1]["epoch"] for event in story(studies / "whole") if event["event"] == "report"}
    states = {event["trial"]: event["state"] for event in story(studies / "whole") if event["event"] == "tell"}
    assert {"pruned", "complete"} == {*states.values()}
    assert all(epoch <= 4 if states[trial] == "pruned" else epoch == 6 for trial, epoch in reached.items())  # 5 and 6 are the large ones

    killed = fork(project, [*words, "study=killed"], "checkpoint 15 1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with np.load(studies / "killed" / "checkpoints" / "0.npz") as left:
        assert json.loads(str(left["about"]))["epoch"] == 4
        assert len(left["losses"]) == 3  # steps on large images
    resumed = fork(project, [*words, "study=killed"])
    assert resumed.returncode == 0, resumed.stderr
    assert story(studies / "killed") == story(studies / "whole")
    for path in studies.glob("whole/trials/*/*.npz"):
        with np.load(path) as one, np.load(studies / "killed" / path.relative_to(studies / "whole")) as other:
            assert all((one[leaf] == other[leaf]).all() for leaf in one.files if leaf != "about"), path  # which holds times


def test_a_plan_times_each_size_and_refuses_a_wrong_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *WORDS]) == 0
    said = capsys.readouterr().out
    assert " s an epoch at 16 pixels, " in said
    assert " s an epoch at 32 pixels, " in said
    assert "compile groups: 1, of 4 sampled trials" in said
    for verb in ("plan", "search"):
        assert main([verb, *WORDS, "train.image_sizes=[16,24]"]) == 1
        assert "must end with the size of the images, which is 32x32" in capsys.readouterr().err
    assert not list(project.rglob("journal.jsonl"))


def test_a_forecast_counts_the_epochs_of_each_size(project: Path) -> None:
    config = compose([*WORDS, "train.epochs=5"])
    found = make_forecast(config, replace(COSTS, main=[3.0, 10.0]), 4, groups=0, missing=0)
    assert found.most == 4 * (2 * 2 + 3 * 3 + 2 * 10 + 5) / 60
    assert found.least == ((2 * 2 + 3 * 3 + 2 * 10 + 5) + 3 * 2 * 2) / 60  # one to its end, three to the first decision


def test_the_time_of_a_trial_is_counted_by_size() -> None:
    ends = [0.0, 9.0, 10.0, 19.0, 20.0, 21.0, 39.0, 43.0, 47.0]  # 9 1 | 9 1 1 | 18 4 4
    assert training_seconds(ends, 2, 0, 5) == 2 * 1 + 3 * 1 + 3 * 4
