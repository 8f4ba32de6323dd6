"""A new study takes over the trials of others that its space has a point for, and a kill changes
nothing.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from flowersweep.config.compose import compose, parse
from flowersweep.search import optuna_study
from flowersweep.space.space import build_space
from flowersweep.space.transforms import ppf
from flowersweep.study.events import EpochsReported, ImportedTrial
from flowersweep.study.journal import read_events
from flowersweep.study.records import StudyRecord, read_study
from tests.conftest import TINY, tiny_model
from tests.events import story
from tests.execution.test_threads import BESIDE
from tests.kills import Fork

pytestmark = pytest.mark.slow

SMALL = ["+sweep=smoothing", "tracking.enabled=false", "sampler.n_startup_trials=5", *TINY]
NARROW = "sweep.space.label_smoothing.values='interval(0.0, 0.12)'"
IMPORT = "sweep.import_from=[wide]"


def study(project: Path, name: str) -> StudyRecord:
    return read_study(project / "mlruns" / "studies" / name)


def taken(project: Path, name: str) -> list[ImportedTrial]:
    return study(project, name).started.imported


def run(fork: Fork, project: Path, *words: str) -> str:
    """Run a command that succeeds; return what it said."""
    done = fork(project, [*SMALL, *words])
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, fork: Fork) -> Path:
    """A folder of results with the study that all tests import."""
    folder = tmp_path_factory.mktemp("wide")
    tiny_model(folder)
    run(fork, folder, "study=wide", "sweep.n_trials=8")
    return folder / "mlruns"


@pytest.fixture
def project(project: Path, wide: Path) -> Path:
    shutil.copytree(wide, project / "mlruns")
    return project


def test_a_narrower_space_takes_over_what_fits(project: Path, fork: Fork) -> None:
    said = run(fork, project, NARROW, IMPORT, "study=narrow", "sweep.n_trials=3")
    ended = [
        trial for trial in study(project, "wide").trials if trial.state in ("complete", "pruned")
    ]
    fitting = [trial for trial in ended if trial.params.get("label_smoothing", 0.0) <= 0.12]
    assert 0 < len(fitting) < len(ended), "the test needs trials that fit and one that does not"
    assert (
        f"imported {len(fitting)} of the {len(ended)} ended trials of study wide; the other "
        f"{len(ended) - len(fitting)} have"
    ) in said
    assert f"learned from: {len(fitting)}" in said
    for trial, entry in zip(fitting, taken(project, "narrow"), strict=True):
        assert (entry.source, entry.state) == (f"wide:{trial.number}", trial.state)
        assert (entry.params, entry.value, entry.metrics) == (
            trial.params,
            trial.value,
            trial.metrics,
        )
        assert entry.reports == {str(epoch): value for epoch, value in trial.reports.items()}
    own = study(project, "narrow").trials
    assert [trial.number for trial in own] == [0, 1, 2]
    assert all(trial.ended for trial in own)
    weights = [*(project / "mlruns" / "studies" / "narrow" / "trials").glob("*/weights.npz")]
    # the best is one of its own
    assert [path.parent.name in ("0", "1", "2") for path in weights] == [True]


def test_another_parameter_fits_where_its_default_does(project: Path, fork: Fork) -> None:
    dropout = "+sweep.space.dropout={path: model.dropout, values: 'interval(0, 0.4)'}"
    run(fork, project, "loss=focal", dropout, IMPORT, "study=focal", "sweep.n_trials=1")
    focal = [trial for trial in study(project, "wide").trials if trial.params["loss"] == "focal"]
    for trial, entry in zip(focal, taken(project, "focal"), strict=True):
        assert entry.params == {
            **{k: v for k, v in trial.params.items() if k != "loss"},
            "dropout": 0.2,
        }
    assert focal


def test_with_another_objective_values_and_curves_are_read_from_the_metrics(
    project: Path, fork: Fork
) -> None:
    run(fork, project, "sweep.objective=tune/macro_f1", IMPORT, "study=f1", "sweep.n_trials=2")
    curves: dict[str, dict[str, float]] = {}
    for event in read_events(project / "mlruns" / "studies" / "wide" / "journal.jsonl")[0]:
        if isinstance(event, EpochsReported):
            last = event.epochs[-1]
            curves.setdefault(f"wide:{event.trial}", {})[str(last.epoch)] = last.metrics[
                "tune/macro_f1"
            ]
    entries = taken(project, "f1")
    complete = [entry for entry in entries if entry.state == "complete"]
    assert complete
    for entry in entries:
        assert entry.reports == curves[entry.source]
        last = [*entry.reports.values()][-1]
        assert entry.value == (entry.metrics["tune/macro_f1"] if entry in complete else last)
    # several objectives: of the complete trials alone
    said = run(
        fork,
        project,
        "sweep.objectives=[tune/macro_f1,tune/nll]",
        "pruner=none",
        IMPORT,
        "study=two",
        "sweep.n_trials=2",
    )
    assert [entry.source for entry in taken(project, "two")] == [entry.source for entry in complete]
    assert f"learned from: {len(complete)}" in said


@pytest.mark.parametrize("target", [0.05, 0.25])
def test_the_sampler_suggests_near_the_imported_trials_that_were_good(target: float) -> None:
    words = ("+sweep=smoothing", "loss=smoothed_cross_entropy", "sampler.n_startup_trials=10")
    config = compose(words)
    space = build_space(config, words, parse(words))
    imported = []
    for number, smoothing in enumerate(np.linspace(0.0, 0.3, 20).tolist()):
        middle = space.fill_active(lambda parameter: ppf(parameter.distribution, 0.5))
        params = {**middle, "label_smoothing": smoothing}
        imported.append(
            ImportedTrial(f"wide:{number}", params, "complete", abs(smoothing - target), {}, {})
        )
    rebuilt = optuna_study.rebuild_study([], space, config, imported)
    assert rebuilt.trials[3].user_attrs == {"source": "wide:3"}
    suggested = [
        optuna_study.ask_trial(rebuilt, 20 + n, space=space, config=config)[1]["label_smoothing"]
        for n in range(9)
    ]
    assert abs(float(np.median(suggested)) - target) < 0.06


@pytest.mark.parametrize("beside", [[], BESIDE], ids=["one after the other", "beside each other"])
def test_killed_and_resumed_equals_never_killed(
    beside: list[str], project: Path, fork: Fork
) -> None:
    words = [*SMALL, *beside, "sweep.n_trials=4", IMPORT]
    whole = fork(project, [*words, "study=whole"])
    assert whole.returncode == 0, whole.stderr
    # in the middle of the line that holds the imports, behind it, behind some later event
    for moment in ("event 1 0.5", "event 1 1.0", "event 5 1.0"):
        killed = fork(project, [*words, "study=killed"], moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    end = fork(project, [*words, "study=killed"])
    assert end.returncode == 0, end.stderr
    studies = project / "mlruns" / "studies"
    assert taken(project, "killed") == taken(project, "whole")
    assert story(studies / "killed") == story(studies / "whole")
    assert end.stdout.splitlines()[:5] == whole.stdout.splitlines()[:5]


def test_what_a_study_imports_is_part_of_what_it_is(project: Path, fork: Fork) -> None:
    run(fork, project, IMPORT, "study=new", "sweep.n_trials=1")
    refused = fork(project, [*SMALL, "study=new", "sweep.n_trials=2"])
    assert refused.returncode == 1
    assert "sweep.import_from: ['wide'] -> []" in refused.stderr


def test_a_changed_study_is_refused_with_both_ways_on(project: Path, fork: Fork) -> None:
    refused = fork(project, [*SMALL, NARROW, "study=wide"])
    assert refused.returncode == 1
    assert (
        "space.label_smoothing.values: 'interval(0.0, 0.3)' -> 'interval(0.0, 0.12)'"
        in refused.stderr
    )
    assert (
        "start another: study=NAME. For one that learns from the trials of this: study=NAME "
        "'sweep.import_from=[wide]'"
    ) in refused.stderr
    images = fork(project, [*SMALL, "data.split_seed=1", "study=wide"])
    assert "study=NAME" in images.stderr
    assert "import_from" not in images.stderr


def test_what_cannot_be_imported_says_why_and_begins_nothing(project: Path, fork: Fork) -> None:
    images = next(word for word in TINY if word.startswith("data.fetch=")).replace(
        "classes: 5", "classes: 4"
    )
    wide = "sweep.import_from=[wide]"
    for words, why in {
        ("sweep.import_from=[widd]",): 'no study "widd"',
        ("sweep.import_from=[new]",): 'no study "new"',
        (images, wide): "saw other images or devices",
        ("sweep.objectives=[tune/nll,time]", "pruner=none", wide): "its trials have no time",
        (
            "sampler=grid",
            "sampler.steps=2",
            "sweep.n_trials=4",
            wide,
        ): "sampler=grid learns nothing",
        ("sampler=qmc", wide): "sampler=qmc learns nothing",
        ("sampler=random", wide): "sampler=random learns nothing",
        ("engine=keras_tuner", "oracle=bayesian", wide): "Use `engine=optuna`",
    }.items():
        plain = any(word.startswith(("sampler=", "engine=")) for word in words)
        base = [word for word in SMALL if not (plain and word.startswith("sampler."))]
        refused = fork(project, [*base, *words, "study=new"])
        assert refused.returncode == 1, words
        assert why in refused.stderr
        assert not study(project, "new")
    alone = fork(project, ["train", "tracking.enabled=false", wide, *TINY])
    assert alone.returncode == 1
    assert "one training has nothing to search" in alone.stderr
