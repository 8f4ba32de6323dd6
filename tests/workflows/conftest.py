"""A registered champion of four classes, whose network was never trained."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from flowersweep.config.schema import Config, Data, Tracking

if TYPE_CHECKING:
    from tests.written_study import Study

FETCH = {"_target_": "synthetic", "classes": 4, "train": 3, "val": 3, "test": 30, "image_size": 32}
DATA = Data(name="synthetic", fetch=FETCH)


@pytest.fixture(scope="session")
def network() -> Any:
    """A network that tells left from right, and is unsure enough for views to disagree."""
    import keras

    keras.utils.set_random_seed(0)
    images = keras.Input((32, 32, 3), name="images")
    maps = keras.layers.Conv2D(8, 5, strides=4, activation="relu")(
        keras.layers.Rescaling(1 / 255)(images)
    )
    return keras.Model(images, keras.layers.Dense(4)(keras.layers.Flatten()(maps)))


def promote(study: Study, network: Any, classes: list[str], data: Data = DATA) -> None:
    """Register a network as the champion of a study's only trial."""
    from flowersweep.tracking import registry, store
    from flowersweep.tracking.shipper import run_ids, sync

    study.write(study.begin(), *study.whole(0), study.stop(best=0))
    sync(study.path, Tracking(), study.dir)
    run = run_ids(study.path, Tracking(), study.dir).trials[0]
    example = np.zeros((1, *network.input_shape[1:]), np.uint8)
    facts = {"classes": classes, "data": asdict(data)}
    client = store.client(Tracking(), study.dir)
    registry.log_model(run, network, example, client, facts=facts)
    version = registry.register(study.name, Tracking(), study.dir)
    registry.move_alias(version, Tracking(), study.dir)


@pytest.fixture
def champion(study: Study, network: Any) -> Config:
    from flowersweep.data.dataset import open_dataset

    promote(study, network, list(open_dataset(DATA, study.dir / "cache").classes))
    return Config(alias="champion", dir=str(study.dir), output=str(study.dir / "submission.csv"))
