"""A sweep over the weights of trained trials: the same coordinator and journal, and no training."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flowersweep.cli.sweep_result import findings_text
from flowersweep.config.compose import compose
from flowersweep.ensemble.members import load_members
from flowersweep.errors import ConfigError, FlowersweepError, StudyError
from flowersweep.evaluation.scores import nll
from flowersweep.workflows.sweep import SweepResult, run_sweep
from tests.conftest import TINY, environment
from tests.events import story
from tests.kills import DIE_AT_WRITE

pytestmark = pytest.mark.slow

QUIET = ["tracking.enabled=false", "progress=false"]
IMAGES = TINY[0].replace("val: 6", "val: 40")


def run(*words: str) -> SweepResult:
    return run_sweep(compose(words), words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder with two small studies of trained trials, and one that saw other images."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "conf" / "model").mkdir(parents=True)
        (folder / "conf" / "model" / "tiny.yaml").write_text(
            "name: tiny\nbackbone: {_target_: tiny_backbone}\nweights: none\n"
        )
        patch.chdir(folder)
        for words in (
            ["study=one"],
            ["study=two", "seed=1", "loss=focal"],
            ["study=others", "data.split_seed=1"],
            ["study=folded", "data.folds=3"],
        ):
            run("+sweep=quick", "sweep.n_trials=3", *TINY[1:], IMAGES, *QUIET, *words)
        yield str(folder / "mlruns")


@pytest.fixture
def words(trained: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A sweep that pools the best two trials of one study with a trial of the other."""
    monkeypatch.chdir(Path(trained).parent)
    return ["+sweep=ensemble", "ensemble.members=[one,two:0]", "ensemble.top=2", *QUIET]


def test_the_first_trials_are_the_usual_ways_and_none_but_the_sampler_comes_after(
    words: list[str],
) -> None:
    outcome = run(*words, "sweep.n_trials=9", "study=ways")
    members = load_members(compose(words))
    assert members is not None
    assert members.names[2] == "two:0"
    assert [record.state for record in outcome.trials] == ["complete"] * 9
    params = [record.params for record in outcome.trials]
    assert params[0] == {"pooling": "linear"} | dict.fromkeys(members.names, 1.0)
    assert sorted(params[1][name] for name in members.names) == [0, 0, 1]
    assert params[1][members.names[members.member_nll.argmin()]] == 1
    assert params[5]["pooling"] == "geometric"
    solver = members.pool([params[2][name] for name in members.names], "linear")
    assert outcome.best is not None
    assert outcome.best.value is not None
    assert outcome.best.value <= min(members.member_nll) + 1e-6
    kept = np.load(Path("mlruns/studies/ways/trials/2/logits.npz"))
    np.testing.assert_allclose(kept["holdout"], solver.logits(members.logits["holdout"]), atol=2e-2)
    np.testing.assert_array_equal(kept["holdout_labels"], members.labels["holdout"])
    assert "test" in kept
    assert outcome.trials[2].metrics["tune/calibrated_nll"] == pytest.approx(
        nll(kept["tune"], kept["tune_labels"]), abs=1e-3
    )
    assert not list(Path("mlruns/studies/ways").rglob("weights.npz"))
    assert not list(Path("mlruns/studies/ways").rglob("checkpoints"))


def test_the_gain_is_told_on_the_held_out_half_beside_the_weights(words: list[str]) -> None:
    outcome = run(*words, "sweep.n_trials=3", "study=told", "ensemble.pooling=linear")
    found = outcome.analysis
    assert found is not None
    assert "pooling" not in outcome.trials[0].params
    single = next(way for way in found.pooling_results if way.name == "best single")
    assert single.gain["nll"].value == single.gain["macro_f1"].standard_error == 0
    assert all(
        way.nll - single.nll == pytest.approx(way.gain["nll"].value)
        for way in found.pooling_results
    )
    for way in found.pooling_results:
        assert sum(way.weights) == pytest.approx(1)
    assert json.loads(Path("mlruns/studies/told/ensemble.json").read_text())["members"] == list(
        found.members
    )
    text = findings_text(found)
    assert all(name in text for name in (*found.members, "95 % interval", "uniform", "greedy"))


def test_cross_validated_members_are_pooled_by_what_no_head_has_seen(words: list[str]) -> None:
    outcome = run(*words, "ensemble.members=[folded]", "sweep.n_trials=2", "study=pool")
    kept = np.load(Path("mlruns/studies/pool/trials/0/logits.npz"))
    assert len(kept["tune_labels"]) == len(kept["tune"]) == 5 * 8 + 5 * 40 // 2
    assert "3-fold cross-validation over train and tune, 140 images" in str(outcome.judging)


def test_a_killed_ensemble_goes_on_as_one_that_was_not(words: list[str]) -> None:
    more = [*words, "sweep.n_trials=8"]
    run(*more, "study=whole")
    line = [sys.executable, str(DIE_AT_WRITE), "event", "13", "0.5", *more, "study=killed"]
    killed = subprocess.run(
        line, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert killed.returncode == -9, killed.stderr
    studies = Path("mlruns/studies")
    assert 0 < (studies / "killed" / "journal.jsonl").read_text().count('"event":"trial_ended"') < 8
    run(*more, "study=killed")
    assert story(studies / "killed") == story(studies / "whole")


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ("[]", ConfigError, "which trials are pooled.*Studies: .*one"),
        ("[on]", StudyError, 'no study "on".*Did you mean "one"'),
        (
            "[one,two:7]",
            StudyError,
            'study "two" has no complete trial 7. Complete trials: 0, 1, 2',
        ),
        ("[one:0,one:0]", StudyError, "an ensemble needs two or more"),
        (
            "[one,others]",
            StudyError,
            "other halves of val.*others: digest [0-9a-f]+, data.split_seed=1",
        ),
        ("[one,folded]", StudyError, "judged by others.*folded: .*data.folds=3.*judged alike"),
    ],
    ids=["none", "no such study", "no such trial", "only one", "other halves", "folds"],
)
def test_members_that_cannot_be_pooled_are_refused(
    words: list[str], asked: str, error: type[FlowersweepError], told: str
) -> None:
    with pytest.raises(error, match=told):
        run(*words, f"ensemble.members={asked}", "study=refused")
    assert not Path("mlruns/studies/refused").exists()


def test_other_images_and_a_sweep_of_something_else_are_refused(words: list[str]) -> None:
    other = IMAGES.replace("val: 40", "val: 8")
    with pytest.raises(
        StudyError, match=r"the members saw images of digest \w+ .* leave data=... out"
    ):
        run(*words, other, "study=refused")
    with pytest.raises(
        ConfigError, match=r"no train.learning_rate to search: take \+sweep=ensemble"
    ):
        run(*words[1:], "+sweep=quick", "study=refused")


def test_members_with_other_labels_are_refused(words: list[str]) -> None:
    path = Path("mlruns/studies/two/trials/1/logits.npz")
    kept = dict(np.load(path))
    changed = kept | {"holdout_labels": kept["holdout_labels"][::-1]}
    try:
        np.savez(path, **changed)
        with pytest.raises(
            StudyError, match="two:1 and one:0 have other labels or classes in holdout"
        ):
            run(*words, "ensemble.members=[one:0,two:1]", "study=refused")
    finally:
        np.savez(path, **kept)
