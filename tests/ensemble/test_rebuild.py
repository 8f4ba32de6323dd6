"""Trained members as one Keras model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flowersweep.data.pipeline import read_images
from flowersweep.ensemble.rebuild import build_ensemble
from flowersweep.evaluation import ensemble
from flowersweep.evaluation.calibration import probabilities
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from tests.tiny import tiny


@pytest.mark.parametrize("other", [{"feature_views": 1}, {"feature_scaling": "none"}])
def test_members_on_one_backbone_keep_the_views_and_the_scale_of_their_features(
    other: dict[str, object], context: TrainingContext
) -> None:
    first = tiny()
    configs = first, replace(first, model=replace(first.model, **other))  # type: ignore[arg-type]
    trained = [
        trial.advance(config, Checkpoint(), config.train.all_epochs, context)[0]
        for config in configs
    ]
    results = [trial.finish(*pair, context) for pair in zip(configs, trained, strict=True)]
    labels = results[0].labels["tune"]
    pool = ensemble.pool([result.logits["tune"] for result in results], labels, [1.0, 1.0])
    model = build_ensemble(dict(enumerate(zip(configs, trained, strict=True))), pool, context)
    dataset = context.dataset(first.data)
    images = read_images(dataset.splits["val"], dataset.holdout)
    np.testing.assert_allclose(
        probabilities(model.predict(images, verbose=0)),
        probabilities(pool.logits([result.logits["holdout"] for result in results])),
        atol=1e-4,
    )
