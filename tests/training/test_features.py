"""Features that were kept and cannot be read are computed again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flowersweep.training.context import TrainingContext
from flowersweep.training.features import feature_dir, load_or_compute_features
from tests.tiny import tiny


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_computed_again_and_named(
    share: float, context: TrainingContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny()
    dataset, classifier = context.dataset(config.data), context.classifier(config)
    dataset = replace(dataset, splits={"val": dataset.splits["val"]})

    def features() -> np.ndarray:
        return load_or_compute_features(
            dataset, classifier, context.runtime, tmp_path, progress=lambda *_: None
        )["val"]

    before = np.array(features())
    path = feature_dir(dataset, classifier, context.runtime, tmp_path) / "val.npy"
    os.truncate(path, int(share * path.stat().st_size))
    np.testing.assert_array_equal(features(), before)
    assert f"{path} cannot be read" in caplog.text
    np.testing.assert_array_equal(np.load(path), before)
