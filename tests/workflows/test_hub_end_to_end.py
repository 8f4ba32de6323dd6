"""A transformer of keras-hub from sweep to export: swept, promoted, predicted with, replayed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from flowersweep.__main__ import main
from flowersweep.config.compose import compose_unchecked
from flowersweep.config.schema import Tracking
from flowersweep.evaluation.calibration import probabilities
from flowersweep.tracking import registry
from tests.models.presets import saved
from tests.workflows.test_export import pixels, require_same

SWEEP = """defaults: [override /sampler: grid, override /pruner: none]
sweep: {n_trials: 2, space: {drop: {path: model.drop_path, values: 'choice(0.0, 0.2)'}}}
"""
WORDS = [
    "data.fetch={_target_: synthetic, classes: 5, train: 8, val: 6, test: 2, image_size: 32}",
    "model=keras_hub",
    "model.preset=./vit",
    "model.pooling=both",
    "model.lora_rank=2",
    "train=finetune",
    "train.head_epochs=1",
    "train.epochs=1",
    "train.batch_per_replica=8",
    "train.min_head_steps=0",
    "progress=false",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="keras-hub is not installed"
)
def test_a_transformer_goes_all_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved("vit", tmp_path / "vit")
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "drops.yaml").write_text(SWEEP)
    compose_unchecked.cache_clear()
    assert main(["+sweep=drops", *WORDS]) == 0
    few = ["promotion.top=1", "promotion.seeds=2", "force=true", "reason=a test"]
    assert main(["promote", "study=drops", *few, *QUIET]) == 0
    capsys.readouterr()
    assert main(["predict", "alias=champion", "output=predictions.csv", *QUIET]) == 0
    model = registry.load(Tracking(), tmp_path / "mlruns", alias="champion")
    expected = probabilities(np.asarray(model.predict(pixels(32), verbose=0)))
    for format in ("keras", "saved_model", "openvino"):
        if format == "openvino" and importlib.util.find_spec("openvino") is None:
            continue
        folder = tmp_path / format
        words = [f"format={format}", f"output={folder}", "alias=champion"]
        assert main(["export", *words]) == 0
        require_same(folder, format, expected, pixels(32))
        assert ("keras-hub" in (folder / "README.md").read_text()) == (format == "keras")
    run = registry.find_run(Tracking(), tmp_path / "mlruns", alias="champion")
    capsys.readouterr()
    assert main(["replay", f"run={run}", *QUIET]) == 0
    assert "every digit agrees" in capsys.readouterr().out


QUIET = ["progress=false"]
