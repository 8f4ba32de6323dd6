"""A sweep on few images: judged by cross-validation, and said so; the same after every kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowersweep.config.schema import Tracking
from flowersweep.study.baselines import FILE
from flowersweep.study.records import read_study
from flowersweep.tracking.shipper import run_ids
from tests.conftest import TINY
from tests.events import story
from tests.kills import Fork, until_it_ends

SMALL = ["tracking.enabled=false", *(word for word in TINY if word != "data.folds=1")]
SWEEP = ["+sweep=smoothing", "sweep.n_trials=6", "sampler.n_startup_trials=4", *SMALL]
JUDGED = (
    "tune has 15 images, too few to choose by: trials are judged by 5-fold cross-validation over "
    "train and tune, 55 images"
)


@pytest.mark.slow
def test_few_images_are_cross_validated_and_the_study_says_so(project: Path, fork: Fork) -> None:
    words = ["+sweep=smoothing", "sweep.n_trials=2", "study=few", *SMALL]
    done = fork(project, words)
    assert done.returncode == 0, done.stderr
    assert JUDGED in done.stdout
    folder = project / "mlruns" / "studies" / "few"
    best = read_study(folder).best
    assert best is not None
    with np.load(folder / "trials" / str(best.number) / "logits.npz") as kept:
        assert len(kept["tune"]) == len(kept["tune_labels"]) == 55
        assert len(kept["holdout"]) == 15
    page = (folder / "report.html").read_text()
    assert JUDGED[1:] in page
    assert "logistic regression" in page
    assert (folder / FILE).exists()
    refused = fork(project, [*words, "data.folds=1"])
    assert refused.returncode == 1
    assert "data.folds: 5 -> 1" in refused.stderr
    same = fork(project, [*words, "data.folds=5"])
    assert same.returncode == 0, same.stderr


@pytest.mark.slow
def test_a_sweep_that_may_fine_tune_judges_all_trials_by_tune(project: Path, fork: Fork) -> None:
    space = "+sweep.space={train: {path: train, values: 'choice(frozen, finetune)'}}"
    words = ["study=both", space, "sweep.n_trials=1", *SMALL]
    done = fork(project, ["search", *words])
    assert done.returncode == 0, done.stderr
    started = read_study(project / "mlruns" / "studies" / "both").started
    assert started.settings["data.folds"] == 1
    assert "data.folds=1" in started.overrides
    refused = fork(project, ["search", *words, "data.folds=3", "study=folded"])
    assert "data.folds=3: only frozen heads are judged by cross-validation" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["train.restore_best=true", "train.patience=1", "train.epochs=6"],
        ["executor=threads", "sweep.workers=2", "train.restore_best=true"],
    ],
    ids=["best epoch", "threads"],
)
def test_a_cross_validated_sweep_killed_at_random_events_equals_one_never_killed(
    words: list[str], project: Path, fork: Fork, kill_seed: int
) -> None:
    words = [*SWEEP, "train.checkpoint_interval_s=0", *words]
    whole = fork(project, [*words, "study=whole"])
    assert whole.returncode == 0, whole.stderr
    kills, _ = until_it_ends(fork, project, "event", 8, [*words, "study=killed"], kill_seed)
    studies = project / "mlruns" / "studies"
    assert story(studies / "killed") == story(studies / "whole"), (
        f"after kills at (event, share of its line) {kills}"
    )
    for name in ("weights.npz", "logits.npz", FILE):
        one, other = (
            np.load(sorted(studies.glob(f"{study}/**/{name}"))[0]) for study in ("whole", "killed")
        )
        for leaf in one.files:
            if leaf != "about":  # holds times
                np.testing.assert_array_equal(one[leaf], other[leaf], err_msg=f"{name}: {leaf}")


@pytest.mark.slow
def test_a_cross_validated_study_is_promoted_replayed_and_predicts(
    project: Path, fork: Fork
) -> None:
    words = ["+sweep=quick", "study=few", "train.restore_best=true", "train.epochs=5"]
    words += [*SMALL[1:], "train.min_head_steps=200"]
    assert fork(project, words).returncode == 0
    few = ["study=few", "promotion.top=1", "promotion.seeds=2", "progress=false"]
    done = fork(project, ["promote", *few])
    assert done.returncode == 0, done.stderr
    assert "standard error of the best mean tune/calibrated_nll" in done.stdout
    assert "(55 images)" in done.stdout
    assert "on 15 held-out and 55 cross-validated images" in done.stdout
    studies = project / "mlruns" / "studies"
    folds = {
        path.name.split("-")[1]: read_study(path).started.settings["data.folds"]
        for path in studies.glob("few-*")
    }
    assert folds == {"promotion": 5, "refit": 1}
    runs = run_ids(studies / "few" / "journal.jsonl", Tracking(), project / "mlruns")
    again = fork(project, ["replay", f"run={runs.parent}", "progress=false"])
    assert again.returncode == 0, again.stdout + again.stderr
    assert "every digit agrees" in again.stdout
    predicted = fork(project, ["predict", "alias=champion", "output=labels.csv", "progress=false"])
    assert predicted.returncode == 0, predicted.stderr


@pytest.mark.slow
def test_worker_processes_leave_the_same_study_and_baselines_too(project: Path, fork: Fork) -> None:
    words = [*SWEEP, "sweep.workers=2", "train.patience=2"]
    for name in ("one", "two"):
        done = fork(project, [*words, f"study={name}"])
        assert done.returncode == 0, done.stderr
    studies = project / "mlruns" / "studies"
    assert story(studies / "one") == story(studies / "two")
    assert (studies / "one" / FILE).exists()
