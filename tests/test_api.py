"""The package in Python: examples run, nothing is printed, an interrupted search goes on."""

from __future__ import annotations

import doctest
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flowersweep as fs
from flowersweep import api
from flowersweep.space import ranges
from tests.conftest import environment
from tests.waiting import wait_for

SWEEP = """# Which rate?
defaults:
  - override /model: tiny
sweep:
  n_trials: 2
  space:
    learning_rate: {path: train.learning_rate, values: "tag(log, interval(1e-3, 1e-1))"}
data:
  folds: 1
  fetch: {_target_: synthetic, classes: 5, train: 16, val: 40, test: 2, image_size: 32}
train: {epochs: 20, batch_per_replica: 16, min_head_steps: 0}
"""
FEW = {
    "folds": 1,
    "fetch": {
        "_target_": "synthetic",
        "classes": 5,
        "train": 16,
        "val": 40,
        "test": 2,
        "image_size": 32,
    },
}
SHORT = {"epochs": 2, "batch_per_replica": 8, "min_head_steps": 0}
INTERRUPTED = """
import sys
import flowersweep as fs
words = "+sweep=smoothing", "tracking.enabled=false"
try:
    fs.search(*words, n_trials=400)
except KeyboardInterrupt:
    ended = int((fs.read("smoothing").trials["state"] == "complete").sum())
    study = fs.search(*words, n_trials=ended + 2)
    whole = study.trials["state"].isin(["complete", "pruned"]).all()
    print(ended > 0, len(study.trials) >= ended + 2, whole)
"""


@pytest.fixture
def tiny_sweep(project: Path) -> Path:
    """A project whose sweep of smoothing ends in seconds."""
    (project / "sweeps").mkdir()
    (project / "sweeps" / "smoothing.yaml").write_text(SWEEP)
    return project


@pytest.mark.slow
def test_every_example_runs_and_nothing_else_is_printed(
    tiny_sweep: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import jax.numpy as jnp
    import numpy as np

    globs = {"fs": fs, "np": np, "jnp": jnp, "few": FEW, "short": SHORT}
    # each after what it needs
    names = ("search", "train", "plan", "read", "status", "compare", "report", "promote")
    names = (*names, "predict", "load", "register")
    finder, failures = doctest.DocTestFinder(recurse=False), []
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL, verbose=False
    )
    for name in names:
        [example] = finder.find(getattr(api, name), name)
        example.globs = globs
        runner.run(example, out=failures.append, clear_globs=False)
    assert not failures, "".join(failures)
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")
    public = {name for name in fs.__all__ if name.islower()} - {"errors"}
    assert public == {*names}


def test_examples_of_ranges_run() -> None:
    assert doctest.testmod(ranges).failed == 0


@pytest.mark.slow
def test_an_interrupted_search_goes_on_in_the_same_process(tiny_sweep: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=tiny_sweep,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = tiny_sweep / "mlruns" / "studies" / "smoothing" / "journal.jsonl"
    wait_for(lambda: journal.exists() and '"trial_ended"' in journal.read_text(), 120)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (out, err) == ("True True True\n", "")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, flowersweep as fs; before = {*sys.modules}; fs.search, fs.report, fs.Float; "
        "print(*{m.partition('.')[0] for m in before} & {'jax', 'keras', 'numpy', 'hydra'}); "
        "print(*{m.partition('.')[0] for m in sys.modules} & {'jax', 'keras', 'tensorflow'})"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert run.stdout == "\n\n"


def test_the_functions_keep_their_names_beside_folders_of_the_same_name() -> None:
    from flowersweep.report import page
    from flowersweep.search import loop

    assert (fs.search, fs.report) == (api.search, api.report)
    assert (loop.__name__, page.__name__) == ("flowersweep.search.loop", "flowersweep.report.page")
    assert {*dir(fs)} >= {*fs.__all__}
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        fs.serch  # noqa: B018


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fs.search("+sweep=smooting"), 'Did you mean "smoothing"'),
        (lambda: fs.search(study="mine"), "no sweep is chosen"),
        (lambda: fs.search(space={"learning_rate": fs.Float(1e-3, 1)}), "study=NAME"),
        (lambda: fs.search("smoothing"), "is not of the form key=value"),
        (lambda: fs.search("+sweep=smoothing", n_trial=3), 'Did you mean "n_trials"'),
        (lambda: fs.read("nothing"), 'no study "nothing"'),
        (lambda: fs.promote("nothing"), 'no study "nothing"'),
        (lambda: fs.promote(), "whose best model"),
    ],
)
def test_a_mistake_is_an_error_of_the_package(call: Any, message: str, project: Path) -> None:
    with pytest.raises(fs.errors.ConfigError) as error:
        call()
    assert message in str(error.value)
