"""Averages of fine-tuned networks as members of an ensemble, against NumPy and a loop by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.cli.sweep_result import findings_text
from flowersweep.config.compose import compose
from flowersweep.config.schema import Tracking
from flowersweep.data.dataset import open_dataset
from flowersweep.data.pipeline import in_order, read_images
from flowersweep.ensemble.averaging import average, soup_name, trained_for
from flowersweep.ensemble.members import load_members
from flowersweep.ensemble.rebuild import configured
from flowersweep.ensemble.soups import choose_greedily
from flowersweep.errors import StudyError, TrackingError
from flowersweep.evaluation.calibration import probabilities
from flowersweep.report.evidence import sentences
from flowersweep.study.records import TrialRecord, read_study
from flowersweep.tracking import registry
from flowersweep.tracking.recorded import load_run
from flowersweep.tracking.shipper import run_ids
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.step import State
from flowersweep.training.trial import build_keras_model
from flowersweep.workflows.promotion.ensemble import run_ensemble_promotion
from flowersweep.workflows.promotion.refit import refit
from flowersweep.workflows.replay import replay
from tests.conftest import TINY, environment, tiny_model
from tests.ensemble.test_ensemble_sweep import IMAGES, QUIET, run
from tests.events import lines, story
from tests.kills import DIE_AT_WRITE

STUDIES = Path("mlruns/studies")
FINETUNED = [
    "train=finetune",
    "train.head_epochs=1",
    "train.epochs=2",
    "train.steps_per_epoch=3",
    "train.batch_statistics=true",
    'train.learning_rate_range="tag(log, interval(3e-3, 3e-2))"',
    "sweep.objective=tune/nll",
]


def network(seed: int, *, averaged: bool = False, shape: tuple[int, ...] = (3, 2)) -> Checkpoint:
    rng = np.random.default_rng(seed)
    trainable, average = ([rng.normal(size=shape).astype(np.float32)] for _ in range(2))
    statistics = [rng.random(4).astype(np.float32), np.uint32([seed, 7])]
    state: Any = State(np.int32(9), trainable, statistics, [], average if averaged else [])
    return Checkpoint(5, state)


def test_an_average_is_that_of_numpy_and_takes_averaged_weights_where_there_are_some() -> None:
    networks = [network(1), network(2, averaged=True), network(3)]
    soup = average(iter(networks), epoch=4)
    weights = [networks[0].state.trainable[0], networks[1].state.average[0]]  # type: ignore[union-attr]
    wanted = np.mean([*weights, networks[2].state.trainable[0]], axis=0, dtype=np.float64)  # type: ignore[union-attr]
    assert soup.epoch == 4
    assert soup.state is not None
    assert soup.state.trainable[0].dtype == np.float32
    np.testing.assert_allclose(soup.state.trainable[0], wanted, rtol=1e-6)
    statistics = [each.state.non_trainable[0] for each in networks]  # type: ignore[union-attr]
    np.testing.assert_allclose(soup.state.non_trainable[0], np.mean(statistics, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(soup.state.non_trainable[1], [1, 7])
    assert not soup.state.optimizer
    with pytest.raises(ValueError, match="other shapes"):
        average([network(1), network(2, shape=(2, 3))], epoch=4)


@pytest.mark.parametrize("objective", ["tune/nll", "tune/accuracy"])
def test_the_greedy_choice_is_that_of_a_loop_by_hand(objective: str) -> None:
    rng = np.random.default_rng(0)
    sign = -1 if objective == "tune/nll" else 1
    for _ in range(50):
        points = rng.integers(0, 4, size=6) / 4  # of which some are equal
        scores = {}

        def score(trials: list[str], points: Any = points, scores: Any = scores) -> float:
            value = sign * float(np.cos(3 * np.mean([points[int(name)] for name in trials])))
            return scores.setdefault(tuple(trials), value)

        soup = ["0"]
        for name in "12345":
            if sign * score([*soup, name]) >= sign * score(soup):
                soup.append(name)
        assert choose_greedily([*"012345"], score, objective)[0] == soup


def test_a_soup_that_is_not_finite_is_not_chosen() -> None:
    values = {1: 0.5, 2: float("nan")}
    chosen, _ = choose_greedily(["a", "b"], lambda trials: values[len(trials)], "tune/accuracy")
    assert chosen == ["a"]


def test_a_soup_is_named_after_its_trials_and_needs_those_that_are_no_members() -> None:
    assert soup_name(["a:7", "a:10", "a:3"]) == "a:3:7:10"
    assert trained_for(["a:3:7:10", "b:1", "a:7", "a:3:4"]) == ["a:3", "a:10", "a:4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a study of fine-tuned trials, of which one sees mirror images too."""
    folder = tmp_path_factory.mktemp("tuned")
    views = '+sweep.space.views={path: model.feature_views, values: "choice(2, 1)"}'
    with pytest.MonkeyPatch.context() as patch:
        tiny_model(folder)
        patch.chdir(folder)
        images = [*TINY[1:], IMAGES.replace("test: 2", "test: 8"), *QUIET]
        grid = ["sampler=grid", "sampler.steps=3", views, "sweep.n_trials=6"]
        run("+sweep=quick", *images, *FINETUNED, *grid, *KEPT, "study=tuned")
        run("+sweep=quick", *images, "sweep.n_trials=2", *KEPT, "study=heads")
        yield folder


KEPT = ["sweep.save_weights_of_best=5"]


@pytest.fixture
def words(trained: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(trained)
    return ["+sweep=ensemble", "ensemble.members=[tuned,tuned:soup]", "progress=false"]


def stored(path: Path) -> list[np.ndarray]:
    """The arrays of a network on disk, in their order, read with NumPy alone."""
    with np.load(path) as file:
        about = json.loads(file["about"].item())
        return [file[name] for name in about["leaves"]]


def kept_trials() -> list[TrialRecord]:
    """The five best of the six fine-tuned trials, whose weights are kept, the best first."""
    trials = sorted(read_study(STUDIES / "tuned").trials, key=lambda trial: trial.value or 0)
    files = [STUDIES / "tuned" / "trials" / str(trial.number) / "weights.npz" for trial in trials]
    assert [file.exists() for file in files] == [True] * 5 + [False]
    return trials[:5]


def model_of(trials: list[int], words: list[str], context: TrainingContext) -> Any:
    """A Keras model with the NumPy mean of the weights of trials."""
    config = compose([*words, *TINY[1:], IMAGES.replace("test: 2", "test: 8")])
    own = configured(config, f"tuned:{trials[0]}")
    paths = [STUDIES / "tuned" / "trials" / str(trial) / "weights.npz" for trial in trials]
    means = [np.mean(arrays, axis=0) for arrays in zip(*map(stored, paths), strict=True)]
    first = Checkpoint.load(paths[0])
    assert first.state is not None
    count = len(first.state.trainable)
    state: Any = State(means[0], means[1 : 1 + count], means[1 + count :], [], [])
    return build_keras_model(own, Checkpoint(first.epoch, state), context)


@pytest.mark.slow
def test_the_soup_of_a_study_is_the_one_of_a_loop_by_hand_and_predicts_what_it_says(
    words: list[str], context: TrainingContext
) -> None:
    members = load_members(compose(words))
    assert members is not None
    dataset = open_dataset(members.data, Path("mlruns/cache"))
    tune, labels = read_images(dataset.splits["val"], dataset.tune), members.labels["tune"]

    @cache
    def nll(*trials: int) -> float:
        logits = np.asarray(model_of([*trials], words, context)(tune))
        return -float(np.mean(np.log(probabilities(logits)[np.arange(len(labels)), labels])))

    kept = kept_trials()
    alike = [t.number for t in kept if t.params["views"] == kept[0].params["views"]]
    assert 2 <= len(alike) <= 3
    soup = alike[:1]
    for number in alike[1:]:
        if nll(*soup, number) <= nll(*soup):
            soup.append(number)
    name = ":".join(["tuned", *map(str, sorted(soup))])
    assert len(soup) > 1
    assert members.names[-1] == name
    (note,) = members.notes
    assert f"tuned:soup is {name}, the average of the weights of {len(soup)} trials" in note
    assert "model.feature_views is" in note
    assert "1 more, whose weights were not kept (sweep.save_weights_of_best)" in note
    logits = np.asarray(model_of(sorted(soup), words, context)(tune))
    np.testing.assert_allclose(members.logits["tune"][-1], logits, atol=2e-2, rtol=2e-2)
    outcome = run(*words, "tracking.enabled=false", "sweep.n_trials=2", "study=greedy")
    assert outcome.analysis is not None
    assert note in findings_text(outcome.analysis)
    again = load_members(compose([*words, f"ensemble.members=[tuned,{name}]"]))
    assert again is not None
    np.testing.assert_array_equal(again.logits["test"][-1], members.logits["test"][-1])


@pytest.mark.slow
def test_a_soup_of_weights_that_were_not_kept_is_refused_with_what_to_type(
    words: list[str],
) -> None:
    kept = [trial.number for trial in kept_trials()]
    views = {trial.number: trial.params["views"] for trial in read_study(STUDIES / "tuned").trials}
    (lost,) = {*views} - {*kept}
    other = next(number for number in kept if views[number] == views[lost])
    soup = soup_name([f"tuned:{lost}", f"tuned:{other}"])
    with pytest.raises(StudyError, match=f"weights of tuned:{lost} were not kept.*_of_best=10"):
        run(*words, f"ensemble.members=[tuned,{soup}]", "study=refused")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("[heads,tuned:soup:1]", 'study "tuned" has no complete trial soup'),
        ("[heads,heads:soup]", "heads has no fine-tuned trials.*ensemble.pooling=geometric"),
        ("[heads,heads:0:1]", "heads:0 is a head on a frozen backbone.*ensemble.pooling=geometric"),
        ("[tuned,tuned:0:1:2:3:4:5]", "cannot be averaged: of tuned:.*model.feature_views is"),
    ],
)
def test_what_cannot_be_averaged_is_refused_with_the_reason(
    words: list[str], asked: str, told: str
) -> None:
    with pytest.raises(StudyError, match=told):
        run(*words, f"ensemble.members={asked}", "study=refused")
    assert not (STUDIES / "refused").exists()


@pytest.mark.slow
def test_a_soup_goes_through_sweep_promotion_and_refit_and_predicts_what_they_say(
    words: list[str], tmp_path: Path
) -> None:
    alike = [t.number for t in kept_trials() if t.params["views"] == 2]
    soup = soup_name([f"tuned:{number}" for number in alike])
    words = [*words, f"ensemble.members=[tuned:{alike[0]},{soup}]"]
    outcome = run(*words, "sweep.n_trials=3", "study=pool")
    members = load_members(compose(words))
    assert members is not None
    assert outcome.best is not None
    logged = [e for e in lines(STUDIES / "pool" / "journal.jsonl") if e["event"] == "model_logged"]
    model = registry.load(Tracking(), Path("mlruns"), run=logged[0]["run"])
    images = images_of_test(members.data)
    wanted = np.load(STUDIES / "pool" / "trials" / str(outcome.best.number) / "logits.npz")["test"]
    np.testing.assert_allclose(
        probabilities(model.predict(images, verbose=0)), probabilities(wanted), atol=4e-3
    )

    asked = ["verb=promote", "study=pool", "promotion.seeds=2", "progress=false"]
    decision = run_ensemble_promotion(compose(asked), asked, None)
    folder = next(STUDIES.glob("pool-promotion-*"))
    trials = read_study(folder).trials
    names = [trial.params["candidate"] for trial in trials]
    round_ = names[: len(names) // 2]
    assert names == round_ * 2
    parts = [f"tuned:{number}" for number in soup.split(":")[1:]]
    assert {*parts, *members.names} <= {*round_}
    assert all(trial.state == "complete" for trial in trials)
    for first in (0, len(round_)):
        is_mean_of(folder, first + round_.index(soup), [first + round_.index(p) for p in parts])
    assert len({trial.seed for trial in trials if trial.params["candidate"] == parts[0]}) == 2

    assert any(
        f"{soup}, one network with the mean weights of {len(parts)}, " in sentence
        for sentence in sentences(decision.evidence)
    )
    runs = run_ids(folder / "journal.jsonl", Tracking(), Path("mlruns")).trials
    recorded = load_run(runs[round_.index(soup)], Tracking(), Path("mlruns"), tmp_path)
    with pytest.raises(TrackingError, match="is made of other runs and trained nothing"):
        replay(recorded, compose([]), [], features=lambda *_: None, refused=tmp_path)

    siblings = [trial for trial in trials if trial.params["candidate"] == "uniform"]
    uniform = replace(decision, candidate="uniform", siblings=siblings)  # the soup is in it
    run_id = refit(compose(asked), asked, uniform)
    folder = next(STUDIES.glob("pool-refit-*"))
    trials = read_study(folder).trials
    names = [trial.params["candidate"] for trial in trials]
    assert all("holdout/macro_f1" not in trial.metrics for trial in trials)
    is_mean_of(folder, names.index(soup), [names.index(part) for part in parts])
    model = registry.load(Tracking(), Path("mlruns"), run=run_id)
    wanted = np.load(folder / "trials" / str(len(names) - 1) / "logits.npz")["test"]
    np.testing.assert_allclose(
        probabilities(model.predict(images, verbose=0)), probabilities(wanted), atol=4e-3
    )
    facts = registry.model_metadata(Tracking(), Path("mlruns"), run=run_id)
    assert facts["data"]["train_on"] == "all"
    assert len(facts["member_temperatures"]) == len(members.names)


@pytest.mark.slow
def test_a_killed_ensemble_with_a_soup_goes_on_as_one_that_was_not(words: list[str]) -> None:
    more = [*words, "tracking.enabled=false", "sweep.n_trials=6"]
    run(*more, "study=whole")
    line = [sys.executable, str(DIE_AT_WRITE), "event", "8", "0.5", *more, "study=killed"]
    killed = subprocess.run(
        line, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert killed.returncode == -9, killed.stderr
    shutil.rmtree("mlruns/cache/soups")  # it is made again, the same
    run(*more, "study=killed")
    assert story(STUDIES / "killed") == story(STUDIES / "whole")


def is_mean_of(folder: Path, soup: int, parts: list[int]) -> None:
    networks = [stored(folder / "trials" / str(n) / "network.npz") for n in (soup, *parts)]
    for mean, *arrays in list(zip(*networks, strict=True))[1:]:  # the first says how many steps
        np.testing.assert_allclose(mean, np.mean(arrays, axis=0), rtol=1e-5, atol=1e-7)


def images_of_test(data: Any) -> np.ndarray:
    dataset = open_dataset(data, Path("mlruns/cache"))
    return np.concatenate(list(in_order(dataset.splits["test"], (32, 32), 64)))
