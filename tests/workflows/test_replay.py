"""A run is trained again from MLflow alone, digit for digit; other images and other code are
refused with the reason.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from flowersweep import provenance
from flowersweep.__main__ import main
from flowersweep.config.compose import compose_unchecked
from flowersweep.config.paths import merged
from flowersweep.config.schema import Tracking
from flowersweep.data.synthetic.dataset import write
from flowersweep.tracking.store import client
from flowersweep.workflows.replay import ALL, agreeing
from tests.conftest import TINY, tiny_model

SWEEP = """defaults: [override /sampler: grid, override /pruner: none]
sweep: {n_trials: 2, space: {loss: {path: loss, values: 'choice(focal, smoothed_cross_entropy)'}}}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a sweep over two losses, of which MLflow alone is left."""
    folder = tmp_path_factory.mktemp("mein Gärtner")
    tiny_model(folder)
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "losses.yaml").write_text(SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        compose_unchecked.cache_clear()
        assert main(["+sweep=losses", *TINY, "seed=3"]) == 0
        shutil.move(folder / "mlruns" / "studies", folder / "moved")
        yield folder
    compose_unchecked.cache_clear()


def runs(folder: Path) -> dict[str, Any]:
    store = client(Tracking(), folder / "mlruns")
    return {
        run.info.run_name: run
        for run in store.search_runs([each.experiment_id for each in store.search_experiments()])
    }


def artifacts(run: Any) -> Path:
    return Path(unquote(run.info.artifact_uri).removeprefix("file://"))


def replay(run: Any, *words: str) -> int:
    return main(["replay", f"run={run.info.run_id}", "progress=false", *words])


@pytest.mark.parametrize("name", ["losses-0000", "losses-0001", "losses"])
def test_every_digit_of_a_run_agrees_without_its_journal(
    name: str, swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs(swept)[name]
    assert replay(run) == 0
    said = capsys.readouterr().out
    assert "every digit agrees" in said
    assert "every bit is the same" in said
    assert "holdout/macro_f1" in said
    trained = said.partition("run ")[2].partition(":")[0]  # of a study's own run, its best trial
    replayed = client(Tracking(), swept / "mlruns").get_run(trained)
    assert replayed.data.tags["flowersweep.replay"] == "every digit agrees"
    [*_, told] = sorted((artifacts(replayed) / "replay").iterdir())
    assert json.loads(told.read_text())["metrics"]["holdout/macro_f1"]["digits"] == ALL


def test_digits_that_do_not_agree_are_counted_and_end_in_code_3(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs(swept)["losses-0000"]
    store, metric = client(Tracking(), swept / "mlruns"), "holdout/nll"
    before = run.data.metrics[metric]
    store.log_metric(run.info.run_id, metric, before * (1 + 3e-7), step=9)
    try:
        assert replay(run) == 3
        assert "at least 6 digits agree, and all should" in capsys.readouterr().out
        config = artifacts(run) / "config.yaml"
        kept = config.read_text()
        config.write_text(kept.replace("workers: 1", "workers: 2"))
        assert replay(run) == 0
        assert (
            "3 are enough, since it was trained by one of several workers"
            in capsys.readouterr().out
        )
        config.write_text(kept)
    finally:
        store.log_metric(run.info.run_id, metric, before, step=10)


def test_other_images_are_refused(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write(swept / "other", classes=5, train=8, val=7, test=2, image_size=32)
    assert replay(runs(swept)["losses-0000"], f"data.dir='{other}'") == 1
    said = capsys.readouterr().err
    assert "holds other images" in said
    assert "data.dir=PATH" in said


def test_other_code_is_refused_with_how_to_get_it_unless_forced(
    swept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "code", lambda trusted=(): "0" * 16)
    run = runs(swept)["losses-0000"]
    assert replay(run) == 1
    said = capsys.readouterr().err
    assert "the code is another" in said
    assert "force=true" in said
    store, key, known = (
        client(Tracking(), swept / "mlruns"),
        "flowersweep.code",
        run.data.tags["flowersweep.code"],
    )
    store.set_tag(run.info.run_id, key, "1" * 16)
    assert replay(run) == 1
    assert "went on with other code before this run" in capsys.readouterr().err
    store.set_tag(run.info.run_id, key, known)
    assert replay(run, "force=true") == 0
    assert "every digit agrees" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(provenance, "versions", lambda: {"jax": "0.0.1"})
    assert replay(run) == 1
    assert "jax is 0.0.1 and was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seed=4"], "seed: a replay trains what the run was"),
        (["run=unknown"], 'no run "unknown"'),
        ([], "which run?"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    words: list[str], told: str, swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = (
        []
        if "run=unknown" in words or not words
        else [f"run={runs(swept)['losses-0000'].info.run_id}"]
    )
    assert main(["replay", *run, *words]) == 1
    assert told in capsys.readouterr().err


def test_the_page_of_a_run_is_made_from_mlflow_alone(swept: Path) -> None:
    run = runs(swept)["losses-0001"]
    assert main(["report", f"run={run.info.run_id}", "output=run.html"]) == 0
    text = (swept / "run.html").read_text()
    for part in (
        "Train this run again",
        "course-likelihood",
        '"chart-confusion"',
        '"chart-calibration"',
        "Each class on the held-out half",
        "train.epochs",
    ):
        assert part in text
    assert text.count("data:image/jpeg;base64,") > 4  # its mistakes


def test_a_sweep_leaves_its_page_and_the_mistakes_of_its_best_trial_in_mlflow(swept: Path) -> None:
    found = runs(swept)
    assert (artifacts(found["losses"]) / "report.html").stat().st_size > 1_000_000
    best = f"losses-{int(found['losses'].data.tags['flowersweep.best_trial']):04d}"
    assert (artifacts(found[best]) / "mistakes.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert found["losses"].data.metrics.keys() >= {
        "system/disk_usage_percentage",
        "holdout/macro_f1",
    }
    assert found["losses-0000"].data.metrics["images_per_second"] > 0
    assert found["losses-0000"].data.metrics["compiles"] > 0


def test_digits_are_counted() -> None:
    assert [agreeing(1.0, b) for b in (1.0, 1.001, 1 + 1e-15, -1.0, 2.0)] == [ALL, 3, 14, 0, 0]
    assert agreeing(0.0, 0.0) == ALL
    assert agreeing(0.0, 1e-9) == 0
    assert agreeing(12345.0, 12346.0) == math.floor(-math.log10(1 / 12346))


def test_a_group_that_another_option_replaces_leaves_no_key_behind() -> None:
    base = {
        "loss": {"name": "a", "gamma": 1},
        "model": {"name": "m", "preprocess": {"_target_": "f"}},
        "train": {"gradient_clip_norm": 1.0},
    }
    settings = {
        "loss.name": "b",
        "loss.tau": 2,
        "loss.gamma": None,
        "model.name": "n",
        "model.preprocess._target_": None,
    }
    found = merged(base, {**settings, "train.gradient_clip_norm": None})
    assert found == {
        "loss": {"name": "b", "tau": 2},
        "model": {"name": "n", "preprocess": None},
        "train": {"gradient_clip_norm": None},
    }


def test_of_members_that_another_option_does_not_have_no_shell_is_left() -> None:
    one, two = ({"backbone": {"_target_": name}, "preprocess": None} for name in ("f", "g"))
    base = {"model": {"name": "joint", "members": {"one": one, "two": two}}}
    gone = {f"model.members.{name}.backbone._target_": None for name in ("one", "two")}
    alone = merged(base, {**gone, "model.name": "alone", "model.backbone._target_": "f"})
    assert alone == {"model": {"name": "alone", "backbone": {"_target_": "f"}, "members": None}}
    fewer = merged(base, {"model.name": "other", "model.members.two.backbone._target_": None})
    assert fewer == {"model": {"name": "other", "members": {"one": one}}}
