"""Features that were kept and cannot be read are computed again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.config.schema import Data
from flowersweep.runtime import start
from flowersweep.training.context import TrainingContext
from flowersweep.training.features import feature_files, load_or_compute_features
from tests.data.extra.pictures import save, write_photographs
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
    split = dataset.splits["val"]
    paths = feature_files(split, dataset, classifier, context.runtime, tmp_path)

    def features() -> np.ndarray:
        views = load_or_compute_features(
            split, paths, dataset, classifier, context.runtime, progress=lambda *_: None
        )
        return np.stack(views)

    before = features()
    (path,) = (path for path in paths if path.name == name)
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
    split = dataset.splits["val"]

    def features(place: Path, batch: int) -> np.ndarray:
        paths = feature_files(split, dataset, classifier, context.runtime, place)
        views = load_or_compute_features(
            split,
            paths,
            dataset,
            classifier,
            context.runtime,
            batch=batch,
            progress=lambda *_: None,
        )
        return np.stack(views)

    by_openvino = features(tmp_path, 64)
    np.testing.assert_array_equal(features(tmp_path / "other", 7), by_openvino)
    monkeypatch.setattr("flowersweep.training.features.has_openvino", lambda: False)
    by_jax = features(tmp_path, 64)
    assert len([*tmp_path.glob("*-float32*")]) == 2
    np.testing.assert_allclose(by_jax, by_openvino, atol=1e-5 * by_jax.max())


def test_more_training_images_cost_their_own_features_alone_and_test_costs_none(
    tmp_path: Path,
) -> None:
    write_photographs(tmp_path / "photos")
    save(tmp_path / "more" / "rose" / "1.jpg", 5001)
    save(tmp_path / "more" / "lily" / "2.jpg", 5002)
    done = list[str]()

    def shared(**settings: Any) -> tuple[np.ndarray, np.ndarray]:
        data = Data(name="p", format="folder", dir=str(tmp_path / "photos"), **settings)
        counted = TrainingContext(start(), tmp_path, lambda what, *_: done.append(what))
        arrays = counted.get_shared(tiny(data=replace(data, image_size=32, folds=1)))
        return np.asarray(arrays.train[0]), np.asarray(arrays.features["holdout"])

    train, holdout = shared()
    assert {*done} == {f"features of {s}{v}" for s in ("train", "val") for v in ("", ", mirrored")}
    done.clear()
    more, same = shared(extra=[str(tmp_path / "more")])
    assert {*done} == {"features of extra-0", "features of extra-0, mirrored"}
    np.testing.assert_array_equal(more[: len(train)], train)
    np.testing.assert_array_equal(same, holdout)
    assert len(more) == len(train) + 2
    everything, _ = shared(extra=[str(tmp_path / "more")], train_on="all")
    assert len(everything) == len(more) + 8
    assert len(done) == 2  # all of them were there
