"""A sweep that is killed at each kind of moment that there is, and resumed, is the sweep that was
never killed; in MLflow too.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.config.schema import Tracking
from flowersweep.tracking import runs, store
from tests.conftest import TINY, tiny_model
from tests.events import story
from tests.kills import Fork

WORDS = [
    "+sweep=smoothing",
    "sweep.n_trials=5",
    "sampler.n_startup_trials=3",
    "train.checkpoint_interval_s=0",
    *TINY,
]
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("moments")
    tiny_model(made)
    return made


@pytest.fixture(scope="module")
def run(folder: Path, fork: Fork) -> Run:
    """Run the sweep under a name of its own, to its end or to a moment; return its exit code and
    what it printed.
    """

    def one(study: str, moment: str | None = None) -> tuple[int, str]:
        ended = fork(folder, [*WORDS, f"study={study}"], moment)
        return ended.returncode, ended.stdout

    return one


@pytest.fixture(scope="module")
def whole(run: Run) -> str:
    """What the sweep printed that nobody killed: the study ``whole``."""
    code, printed = run("whole")
    assert code == 0, printed
    return printed


def tracked(folder: Path, study: str) -> dict[int | None, Any]:
    """The runs of a study in MLflow, by trial (None: the study's own); each trial has one."""
    client = store.client(Tracking(), folder / "mlruns")
    experiment = client.get_experiment_by_name(study)
    found = runs.search(client, [experiment.experiment_id], {}) if experiment else []
    trials = [run.data.tags.get("flowersweep.trial") for run in found]
    assert len({*trials}) == len(trials)
    return {trial and int(trial): run for trial, run in zip(trials, found, strict=True)}


def events(study: Path) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in (study / "journal.jsonl").read_bytes().split(b"\n")[:-1]]
    return [(line["event"], line.get("trial")) for line in lines]


def last_is(event: str, trial: int | None, study: Path, shipped: dict[int | None, Any]) -> bool:
    return events(study)[-1] == (event, trial)


def half_line(study: Path, shipped: dict[int | None, Any]) -> bool:
    return not (study / "journal.jsonl").read_bytes().endswith(b"\n")


def in_trial_0_with(reports: int, study: Path, shipped: dict[int | None, Any]) -> bool:
    return events(study)[1:] == [("trial_asked", 0), *[("epochs_reported", 0)] * reports]


def half_checkpoint(study: Path, shipped: dict[int | None, Any]) -> bool:
    return [path.name for path in (study / "checkpoints").iterdir()] == ["0.partial"]


def told_not_shipped(study: Path, shipped: dict[int | None, Any]) -> bool:
    return last_is("trial_ended", 1, study, shipped) and (
        1 not in shipped or shipped[1].info.status == "RUNNING"
    )


def model_not_noted(study: Path, shipped: dict[int | None, Any]) -> bool:
    return (
        ("trial_ended", 4) in events(study)
        and all(event != "model_logged" for event, _ in events(study))
        and len(shipped) == 6
    )


def half_page(study: Path, shipped: dict[int | None, Any]) -> bool:
    return bool([*study.glob(".report.html.*.partial")]) and not (study / "report.html").exists()


# moment (see kills/fork_server.py) -> what shows that the kill hit it
MOMENTS: dict[str, Callable[[Path, dict[int | None, Any]], bool]] = {
    "after ask": partial(last_is, "trial_asked", 2),
    "in an epoch": partial(in_trial_0_with, 1),
    "in a checkpoint": half_checkpoint,
    "in the middle of a line": half_line,
    "after the last epoch": partial(in_trial_0_with, 2),
    "between tell and shipping": told_not_shipped,
    "before the best model is noted": model_not_noted,
    "while the report is written": half_page,
}


def scores(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without those that a clock or the process that trained decides."""
    return {
        name: value
        for name, value in metrics.items()
        if name not in ("images_per_second", "compiles") and not name.startswith("system/")
    }


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_moment_and_resumed_equals_never_killed(
    moment: str, run: Run, whole: str, folder: Path
) -> None:
    name = moment.replace(" ", "-")
    studies = folder / "mlruns" / "studies"
    code, printed = run(name, moment)
    assert code == -signal.SIGKILL, printed
    assert MOMENTS[moment](studies / name, tracked(folder, name)), events(studies / name)
    code, printed = run(name)
    assert code == 0, printed

    # numbers, suggestions, values, and what was pruned
    assert story(studies / name) == story(studies / "whole")
    assert [
        event["trial"] for event in story(studies / name) if event["event"] == "trial_ended"
    ] == [0, 1, 2, 3, 4]
    for said in ("trial ", *"01234", "best:"):  # the table, and the best of it
        assert [row for row in printed.splitlines() if row.startswith(said)] == [
            row for row in whole.splitlines() if row.startswith(said)
        ]
    for path in studies.glob("whole/trials/*/*.npz"):
        with (
            np.load(path) as one,
            np.load(studies / name / path.relative_to(studies / "whole")) as other,
        ):
            # which holds times
            assert all((one[leaf] == other[leaf]).all() for leaf in one.files if leaf != "about"), (
                path
            )
    assert (studies / name / "report.html").stat().st_size > 10_000
    assert not list((studies / name).rglob("*.partial"))

    mine, others = tracked(folder, name), tracked(folder, "whole")
    assert mine.keys() == others.keys() == {None, 0, 1, 2, 3, 4}
    for trial in mine:
        assert mine[trial].info.status == others[trial].info.status != "RUNNING"
        assert scores(mine[trial].data.metrics) == scores(others[trial].data.metrics)
        assert mine[trial].data.params == others[trial].data.params
        assert len(mine[trial].outputs.model_outputs) == len(others[trial].outputs.model_outputs), (
            trial
        )
