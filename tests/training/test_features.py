"""Features that were kept and cannot be read are computed again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flowersweep.training.context import TrainingContext
from flowersweep.training.features import feature_dir, load_or_compute_features
from tests.tiny import tiny


def cut_off(path: Path, share: float) -> None:
    os.truncate(path, int(share * path.stat().st_size))


def flip_a_bit(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut_off, flip_a_bit])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", ["val.npy", "val-mirrored.npy"])
def test_a_damaged_file_is_computed_again_and_named(
    damage: Callable[[Path, float], None],
    share: float,
    name: str,
    context: TrainingContext,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny()
    dataset, classifier = context.dataset(config.data), context.classifier(config)
    dataset = replace(dataset, splits={"val": dataset.splits["val"]})

    def features() -> np.ndarray:
        views = load_or_compute_features(
            dataset, classifier, context.runtime, tmp_path, progress=lambda *_: None
        )["val"]
        return np.stack(views)

    before = features()
    path = feature_dir(dataset, classifier, context.runtime, tmp_path) / name
    content = path.read_bytes()
    damage(path, share)
    np.testing.assert_array_equal(features(), before)
    assert f"{path} cannot be read" in caplog.text
    assert path.read_bytes() == content


def test_features_of_openvino_and_of_jax_agree_and_are_kept_apart(
    context: TrainingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    dataset, classifier = context.dataset(config.data), context.classifier(config)
    dataset = replace(dataset, splits={"val": dataset.splits["val"]})

    def features(place: Path, batch: int) -> np.ndarray:
        views = load_or_compute_features(
            dataset, classifier, context.runtime, place, batch=batch, progress=lambda *_: None
        )["val"]
        return np.stack(views)

    by_openvino = features(tmp_path, 64)
    np.testing.assert_array_equal(features(tmp_path / "other", 7), by_openvino)
    monkeypatch.setattr("flowersweep.training.features.has_openvino", lambda: False)
    by_jax = features(tmp_path, 64)
    assert len([*tmp_path.glob("*-float32*")]) == 2
    np.testing.assert_allclose(by_jax, by_openvino, atol=1e-5 * by_jax.max())
