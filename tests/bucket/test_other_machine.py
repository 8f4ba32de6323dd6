"""A sweep that is killed, and goes on from its bucket in an empty project, is the sweep that was
never killed.
"""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY, tiny_model
from tests.events import story
from tests.kills import Fork

WORDS = [
    "+sweep=smoothing",
    "sweep.n_trials=4",
    "sampler.n_startup_trials=2",
    "train.checkpoint_interval_s=0",
    "tracking.enabled=false",
    "sync.interval_s=0",
    *TINY,
]


def machine(folder: Path) -> Path:
    """An empty project on another machine."""
    folder.mkdir(parents=True)
    tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fork: Fork) -> Path:
    """The project of a sweep that nobody killed, without a bucket."""
    project = machine(tmp_path_factory.mktemp("whole") / "project")
    run = fork(project, WORDS)
    assert run.returncode == 0, run.stderr
    return project


def study(project: Path) -> Path:
    return project / "mlruns" / "studies" / "smoothing"


def go_on_until_it_ends(fork: Fork, place: Path, moments: list[str]) -> Path:
    """Kill the sweep at these moments, each time on a machine of its own; return the last."""
    words = [*WORDS, f"sync.to=file://{place}/bucket"]
    for number, moment in enumerate(moments):
        run = fork(machine(place / f"machine{number}"), [*words, "sync.take_over=true"], moment)
        assert run.returncode == -signal.SIGKILL, run.stderr
    last = machine(place / "last")
    run = fork(last, [*words, "sync.take_over=true"])
    assert run.returncode == 0, run.stderr
    return last


def require_same(one: Path, other: Path) -> None:
    assert story(study(one)) == story(study(other))
    results = [
        {path.relative_to(study(project)) for path in study(project).glob("trials/*/*.npz")}
        for project in (one, other)
    ]
    assert results[0] == results[1]
    for name in results[0]:
        with np.load(study(one) / name) as mine, np.load(study(other) / name) as yours:
            assert {*mine} == {*yours}
            for key in mine:
                np.testing.assert_array_equal(mine[key], yours[key])


@pytest.mark.parametrize("moment", ["event 9 0.3", "upload 7 0"])
def test_a_killed_sweep_goes_on_elsewhere_as_if_it_had_never_been_killed(
    whole: Path, fork: Fork, tmp_path: Path, moment: str
) -> None:
    require_same(whole, go_on_until_it_ends(fork, tmp_path, [moment]))


@pytest.mark.slow
@pytest.mark.parametrize("series", range(8))
def test_a_sweep_that_is_killed_again_and_again_at_random_goes_on_elsewhere(
    whole: Path, fork: Fork, tmp_path: Path, kill_seed: int, series: int
) -> None:
    rng = np.random.default_rng([kill_seed, series])
    most = {"event": 8, "checkpoint": 5, "upload": 12}
    moments = []
    for _ in range(3):
        kind = str(rng.choice([*most]))
        moments.append(f"{kind} {rng.integers(2, most[kind])} {rng.choice([0.0, 0.3, 1.0])}")
    print(moments)
    require_same(whole, go_on_until_it_ends(fork, tmp_path, moments))
