"""An ensemble as one model: made of its members' own networks, promoted with fresh ones, and it
predicts what the pool says.
"""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from flowersweep.cli import models
from flowersweep.config.compose import compose, config_from_dict, parse
from flowersweep.config.paths import differences, flatten, merged
from flowersweep.config.schema import Tracking
from flowersweep.data.dataset import open_dataset
from flowersweep.data.pipeline import read_images
from flowersweep.ensemble.members import load_members
from flowersweep.ensemble.rebuild import configured, rebuild_member
from flowersweep.errors import StudyError
from flowersweep.evaluation.calibration import probabilities
from flowersweep.space.space import build_space
from flowersweep.study.events import TrialAsked, TrialEnded
from flowersweep.study.journal import Journal
from flowersweep.study.records import read_study
from flowersweep.tracking import registry
from flowersweep.training.context import TrainingContext
from flowersweep.workflows.promotion.ensemble import rounds_config
from flowersweep.workflows.sweep import run_sweep
from tests.conftest import TINY, tiny_model
from tests.ensemble.test_ensemble_sweep import IMAGES, QUIET, run
from tests.events import fold, lines, rewrite, story
from tests.kills import Fork, until_it_ends

pytestmark = pytest.mark.slow

SWEEP = [
    "+sweep=ensemble",
    "ensemble.members=[one,small:0]",
    "ensemble.top=2",
    "sweep.n_trials=3",
    "study=both",
    "progress=false",
]
STUDIES = Path("mlruns/studies")
MODELS = ("efficientnet_lite0", "efficientnet_b7", "joint")


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:
    """A folder with two studies, one of smaller images, and a study of the ensemble whose model was
    logged.
    """
    folder = tmp_path_factory.mktemp("pooled")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny_model(folder)
        (folder / "mlruns").mkdir()
        shutil.copy(migrated, folder / "mlruns")
        images = [*TINY[1:], IMAGES.replace("test: 2", "test: 8"), "train.min_head_steps=200"]
        run("+sweep=smoothing", "sweep.n_trials=3", "pruner=none", *images, *QUIET, "study=one")
        run(
            "+sweep=quick", "sweep.n_trials=1", *images, *QUIET, "study=small", "data.image_size=24"
        )
        run_sweep(compose(SWEEP), SWEEP)
    return folder


def went_on(study: Path) -> None:
    """Give a study a further trial, better than all before."""
    number = len(read_study(study).trials)
    with Journal(study / "journal.jsonl") as journal:
        for old in [
            old
            for old in journal.events
            if isinstance(old, TrialAsked | TrialEnded) and old.trial == 0
        ]:
            journal.append(
                replace(old, trial=number, value=-1.0)
                if isinstance(old, TrialEnded)
                else replace(old, trial=number)
            )
    shutil.copytree(study / "trials" / "0", study / "trials" / str(number))


@pytest.fixture
def words(pooled: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(pooled)
    return [*SWEEP]


def test_a_trials_configuration_is_read_from_its_journal_alone(words: list[str]) -> None:
    events = lines(STUDIES / "one" / "journal.jsonl")
    space = build_space(
        compose(events[0]["overrides"]), events[0]["overrides"], parse(events[0]["overrides"])
    )
    asked = [event for event in events if event["event"] == "trial_asked"]
    assert len({event["settings"].get("loss.name") for event in asked}) > 1
    for event in asked:
        recorded = config_from_dict(merged(events[0]["config"], event["settings"])).experiment
        assert recorded.runtime.precision == "float32"  # what the devices chose
        own = space.config(event["params"]).experiment
        assert recorded == replace(own, runtime=recorded.runtime)


@pytest.mark.parametrize("base", MODELS)
def test_a_trial_whose_network_has_other_keys_than_the_studys_is_read_from_its_journal(
    base: str,
) -> None:
    configs = {model: compose([f"model={model}"]) for model in MODELS}
    begun = json.loads(json.dumps({"config": asdict(configs[base])}))
    for config in configs.values():
        settings = {
            path: new
            for path, (_, new) in differences(
                dict(flatten(configs[base])), dict(flatten(config))
            ).items()
        }
        assert (
            config_from_dict(merged(begun["config"], json.loads(json.dumps(settings)))).experiment
            == config.experiment
        )


def test_a_promotion_computes_features_in_its_members_sizes_alone(words: list[str]) -> None:
    config = compose(words)
    small = replace(config, data=replace(config.data, image_size=24))
    assert rounds_config(config, [("small:0", small)]).data.image_size == 24


def test_the_sweep_logs_its_best_pool_as_one_model(words: list[str]) -> None:
    events = lines(STUDIES / "both" / "journal.jsonl")
    logged = next(event for event in events if event["event"] == "model_logged")
    kept = np.load(STUDIES / "both" / "trials" / str(logged["trial"]) / "logits.npz")
    model = registry.load(Tracking(), Path("mlruns"), run=logged["run"])
    # as stored: the smaller member's are resized in the model
    assert model.input_shape == (None, 32, 32, 3)
    members = load_members(compose(words))
    assert members is not None
    dataset = open_dataset(members.data, Path("mlruns/cache"))
    images = read_images(dataset.splits["val"], dataset.holdout, (32, 32))
    # the logits are kept in half precision
    np.testing.assert_allclose(
        probabilities(model.predict(images, verbose=0)), probabilities(kept["holdout"]), atol=3e-3
    )


def test_a_member_that_is_not_what_it_was_is_refused(
    words: list[str], context: TrainingContext
) -> None:
    config = compose(words)
    members = load_members(config)
    assert members is not None
    with pytest.raises(
        StudyError,
        match=r"one:\d, (read from|trained again).* is not "
        r"the network whose logits it stored: a probability",
    ):
        rebuild_member(
            replace(config, data=members.data),
            members.names[1],
            members.logits["tune"][0][::-1],
            context,
        )
    with pytest.raises(StudyError, match=r"both:0 is an ensemble itself, .* name its members"):
        configured(config, "both:0")


def test_a_member_that_cannot_be_rebuilt_costs_the_model_alone(
    words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    journals = {
        path: path.read_text()
        for path in (STUDIES / name / "journal.jsonl" for name in ("one", "small"))
    }
    try:
        for path in journals:
            events = json.dumps(lines(path))
            renamed = events.replace('"focal_cross_entropy"', '"own.losses.focal_cross_entropy"')
            rewrite(path, json.loads(renamed))
        outcome = run(*words, "study=unlogged")
    finally:
        for path, text in journals.items():
            path.write_text(text)
    assert outcome.analysis is not None
    assert "no model was logged: " in caplog.text


def test_an_ensemble_passes_the_gate_with_fresh_members_and_predicts_what_they_say(
    words: list[str],
) -> None:
    members = load_members(compose(words))
    assert members is not None
    went_on(STUDIES / "one")
    asked = ["verb=promote", "study=both", "promotion.seeds=2", "progress=false"]
    assert models.promote(compose(asked), asked) == 0
    folder = next(STUDIES.glob("both-promotion-*"))
    events = lines(folder / "journal.jsonl")
    trials = fold(events).trials
    round_ = len(trials) // 2
    names = [trial.params["candidate"] for trial in trials]
    count = names.index("best single")
    trained = names[:count]
    assert trained == [name for name in members.names if name in trained]
    assert count > 1
    assert names[:round_] == names[round_:]
    assert names[count : count + 2] == ["best single", "uniform"]
    assert all(trial.state == "complete" for trial in trials)
    assert [trial.seed for trial in trials[:count]] != [
        trial.seed for trial in trials[round_ : round_ + count]
    ]
    told = json.loads(
        next(Path().glob("mlruns/artifacts/*/*/artifacts/promotion/evidence.json")).read_text()
    )
    assert [each["name"] for each in told["members"]] == trained
    holder = registry.holder(Tracking(), Path("mlruns"))
    assert holder is not None

    best = told["trial"]
    assert names[best] == told["chosen"]
    refit = next(STUDIES.glob("both-refit-*"))
    *members_again, pool = read_study(refit).trials
    used = [each["name"] for each in told["members"]]
    used = used if told["chosen"] != "best single" else [members.names[members.member_nll.argmin()]]
    again = [trial.params["candidate"] for trial in members_again]
    assert again == [name for name in used if name in again]  # those with a weight
    assert again
    assert all("holdout/macro_f1" not in trial.metrics for trial in [*members_again, pool])
    facts = registry.model_metadata(Tracking(), Path("mlruns"), alias="champion")
    assert facts["data"]["train_on"] == "all"
    assert len(facts["member_temperatures"]) == len(again)
    wanted = np.load(refit / "trials" / str(pool.number) / "logits.npz")["holdout"]
    asked = ["verb=predict", "alias=champion", "split=val", "progress=false"]
    models.predict(compose(asked), asked)
    with Path("submission.csv").open() as file:
        labels = [int(label) for _, label in list(csv.reader(file))[1:]]
    data = config_from_dict(lines(STUDIES / "one" / "journal.jsonl")[0]["config"]).data
    holdout = open_dataset(data, Path("mlruns/cache")).holdout
    labels = [labels[row] for row in holdout]
    chances = probabilities(wanted)
    # the two best are told apart in half precision
    clear = np.sort(chances, axis=1)[:, -1] - np.sort(chances, axis=1)[:, -2] > 6e-3
    assert clear.sum() > len(labels) / 2
    np.testing.assert_array_equal(np.array(labels)[clear], chances.argmax(axis=1)[clear])
    asked = ["verb=promote", "study=both", "promotion.seeds=2", "progress=false"]
    assert models.promote(compose(asked), asked) == 0  # it trains nothing, and stays
    assert len(read_study(folder).trials) == len(trials)
    assert len(read_study(refit).trials) == len(again) + 1


def test_killed_at_random_events_a_promotion_of_an_ensemble_and_its_refit_are_those_that_were_not(
    words: list[str], fork: Fork, kill_seed: int
) -> None:
    def trained(folder: Path) -> dict[str, bytes]:
        kept = {str(file): np.load(file) for file in sorted(folder.glob("trials/*/logits.npz"))}
        return {
            f"{file} {part}": each[part].tobytes()
            for file, each in kept.items()
            for part in ("tune", "holdout")
        }

    asked = ["promote", "study=both", "promotion.seeds=2", "progress=false"]
    for old in [*STUDIES.glob("both-promotion-*"), *STUDIES.glob("both-refit-*")]:
        shutil.rmtree(old)
    whole = fork(Path.cwd(), [*asked, "tracking.registered_model=whole"])
    assert whole.returncode == 0, whole.stderr
    folders = [next(STUDIES.glob(f"both-{kind}-*")) for kind in ("promotion", "refit")]
    told, logits = [story(folder) for folder in folders], [trained(folder) for folder in folders]
    ended = sum(event["event"] == "trial_ended" for event in told[0])
    assert len(logits[0]) == 2 * ended >= 20
    for folder in folders:
        shutil.rmtree(folder)
    kills, _ = until_it_ends(
        fork, Path.cwd(), "event", 20, [*asked, "tracking.registered_model=killed"], kill_seed
    )
    assert [story(folder) for folder in folders] == told, (
        f"after kills at (event, share of its line) {kills}"
    )
    assert [trained(folder) for folder in folders] == logits
