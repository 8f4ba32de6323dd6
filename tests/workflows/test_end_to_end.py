"""The path of a user, with the real MLflow: sweep, look, promote, predict; and a kill in the
middle.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
import signal
from pathlib import Path

import pytest
from markupsafe import escape

from tests.conftest import TINY
from tests.events import story
from tests.kills import Fork

# enough steps to be better than chance on 15 images
WORDS = ["+sweep=smoothing", "sweep.n_trials=6", *TINY, "train.min_head_steps=200"]


def test_a_sweep_that_was_killed_ends_tracked_promoted_and_predicted(
    project: Path, mlruns: Path, fork: Fork
) -> None:
    journal = mlruns / "studies" / "smoothing" / "journal.jsonl"
    killed = fork(project, WORDS, "between tell and shipping")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    swept = fork(project, WORDS)
    assert swept.returncode == 0, swept.stderr
    assert "6 trials: " in swept.stdout
    assert "promote study=smoothing" in swept.stdout
    page = (journal.parent / "report.html").read_text()
    assert "read the report:     mlruns/studies/smoothing/report.html" in swept.stdout
    # words with spaces stand in quotes in the command to copy
    assert str(escape(shlex.quote(TINY[0]))) in page

    runs = tracked(project)
    trials = [run for run in runs if "flowersweep.trial" in run.data.tags]
    parents = [run for run in runs if run.data.tags.get("flowersweep.kind") == "study"]
    assert sorted(int(run.data.tags["flowersweep.trial"]) for run in trials) == list(range(6))
    assert [run.info.status for run in parents] == ["FINISHED"]
    assert not [run for run in runs if run.info.status == "RUNNING"]
    for run in trials:
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert "learning_rate" in run.data.params
    complete = [run for run in trials if run.data.tags["flowersweep.state"] == "complete"]
    assert complete
    assert all(
        {"tune/macro_f1", "holdout/macro_f1", "train/loss"} <= set(run.data.metrics)
        for run in complete
    )

    words = ["promote", "study=smoothing", "promotion.seeds=2", "progress=false"]
    promoted = fork(project, [*words, "promotion.top=1"])
    assert promoted.returncode == 0, promoted.stderr
    assert "flowersweep version 1 is now champion" in promoted.stdout
    assert "of the study smoothing; the seeds here are fresh" in promoted.stdout
    again = fork(project, [*words, "promotion.top=1"])
    assert "flowersweep version 1 is the champion already" in again.stdout

    predicted = fork(project, ["predict", "alias=champion", "split=test"])
    assert predicted.returncode == 0, predicted.stderr
    with (project / "submission.csv").open() as file:
        heading, *rows = csv.reader(file)
    assert heading == ["id", "label"]
    assert len(rows) == len({row[0] for row in rows}) == 10
    assert {int(label) for _, label in rows} <= set(range(5))
    evidence = json.loads(
        next(project.glob("mlruns/artifacts/*/*/artifacts/promotion/evidence.json")).read_text()
    )
    assert evidence["images"] == {"tune": 15, "holdout": 15}  # of trainings that have not seen them
    assert "trained once more, on train and val together" in promoted.stdout
    refit = next(project.glob("mlruns/studies/smoothing-refit-*"))
    [ended] = [event for event in story(refit) if event["event"] == "trial_ended"]
    assert not [name for name in ended["metrics"] if "holdout" in name]  # it is no evidence

    # the next candidate meets the champion's evidence, not the model that has seen the holdout
    challenged = fork(project, [*words, "promotion.top=2"])
    assert challenged.returncode in (0, 3), challenged.stderr
    assert "champion already" in challenged.stdout or "Against the champion" in challenged.stdout

    unknown = fork(project, ["predict", "alias=winner"])
    assert unknown.returncode == 1
    assert re.search(r"Aliases: (challenger, )?champion\.", unknown.stderr)


def tracked(project: Path) -> list:  # type: ignore[type-arg]
    from flowersweep.config.schema import Tracking
    from flowersweep.tracking.store import client

    store = client(Tracking(), project / "mlruns")
    experiment = store.get_experiment_by_name("smoothing")
    assert experiment is not None
    return list(store.search_runs([experiment.experiment_id]))


@pytest.mark.slow
def test_one_training_is_a_run_of_its_own_and_is_not_done_twice(project: Path, fork: Fork) -> None:
    words = [*TINY, "tracking.enabled=false"]
    first = fork(project, words)
    assert first.returncode == 0, first.stderr
    assert "1 trial: 1 complete" in first.stdout
    assert fork(project, words).returncode == 0
    assert len(list((project / "mlruns" / "studies").iterdir())) == 1
    assert fork(project, [*words, "seed=1"]).returncode == 0
    assert len(list((project / "mlruns" / "studies").iterdir())) == 2


@pytest.mark.slow
def test_fine_tuning_trains_the_backbone_too(project: Path, fork: Fork) -> None:
    run = fork(
        project,
        [
            "train=finetune",
            *TINY,
            "train.head_epochs=1",
            "train.epochs=1",
            "train.steps_per_epoch=2",
            "tracking.enabled=false",
        ],
    )
    assert run.returncode == 0, run.stderr
    assert "1 trial: 1 complete" in run.stdout


@pytest.mark.slow
def test_a_failing_trial_has_its_reason_and_the_study_goes_on(project: Path, fork: Fork) -> None:
    (project / "sweeps").mkdir()
    (project / "sweeps" / "steep.yaml").write_text(
        "sweep: {n_trials: 4, space: {rate: {path: train.learning_rate, values: 'choice(0.001, "
        "3e38)'}}}\n"
        "defaults: [override /sampler: random, override /pruner: none]\n"
    )
    run = fork(project, ["+sweep=steep", *TINY, "tracking.enabled=false", "seed=3"])
    assert run.returncode == 0, run.stderr
    assert "failed: train/loss is nan" in run.stdout
    assert "4 trials: " in run.stdout
    assert "complete" in run.stdout


@pytest.mark.slow
def test_a_trial_whose_values_do_not_go_together_fails_and_the_study_goes_on(
    project: Path, fork: Fork
) -> None:
    (project / "sweeps").mkdir()
    (project / "sweeps" / "pairs.yaml").write_text(
        "sweep: {n_trials: 6, space: {"
        "parts: {path: train.gradient_accumulation_steps, values: 'choice(1, 3)'}, "
        "optimizer: {path: optimizer, values: 'choice(adam, sgd)'}, "
        "momentum: {path: optimizer.momentum, values: 'choice(0.1, 0.9)'}}}\n"
        "defaults: [override /sampler: random, override /pruner: none, "
        "override /optimizer: sgd]\n"
    )
    for _ in range(2):
        run = fork(project, ["+sweep=pairs", *TINY, "tracking.enabled=false", "seed=1"])
        assert run.returncode == 0, run.stderr
    assert "gradient_accumulation_steps=3 does not divide train.batch_per_replica=8" in run.stdout
    assert "optimizer.momentum=" in run.stdout
    assert "this configuration has no such key" in run.stdout
    assert "complete" in run.stdout
    assert "6 trials: " in run.stdout


def test_data_says_what_is_there(project: Path, fork: Fork) -> None:
    run = fork(project, ["data", *TINY])
    assert run.returncode == 0, run.stderr
    assert (
        "5 classes, 32x32 pixels, train 40, val 30, test 10 (val: tune 15, holdout 15)"
        in run.stdout
    )


@pytest.mark.parametrize("damage", ["truncate", "rename"])
def test_a_damaged_file_stops_before_training_and_is_named(
    damage: str, project: Path, fork: Fork
) -> None:
    from flowersweep.data.synthetic.dataset import write

    folder = write(project / "images", classes=3, train=4, val=4, test=1, image_size=32)
    file = sorted((folder / "train").iterdir())[0]
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-7])
    else:
        file = file.rename(file.with_name("00-32x32-999.tfrec"))
    run = fork(project, ["data=tfrecords", f"data.dir={folder}", "model=tiny", "progress=false"])
    assert run.returncode == 1
    assert file.name in run.stderr
    assert "Traceback" not in run.stderr
    assert not list(project.rglob("journal.jsonl"))
