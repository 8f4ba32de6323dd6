"""From a trained network to the champion and back, through a real store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError
from flowersweep.tracking import registry, store
from flowersweep.tracking.shipper import run_ids, sync

LOCAL = Tracking()
CLASSES = ["pink primrose", "wild rose", "tulip", "daisy"]
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network() -> Any:
    import keras

    images = keras.Input((8, 8, 3), name="images")
    pooled = keras.layers.GlobalAveragePooling2D()(
        keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(images))
    )
    return keras.Model(images, keras.layers.Dense(4)(pooled))


@dataclass
class Shipped:
    """A study whose runs are in the store."""

    dir: Path
    trials: dict[int, str]


@pytest.fixture
def shipped(study) -> Shipped:
    study.write(study.begin(), *study.whole(0), *study.whole(1), study.stop(best=1))
    sync(study.path, LOCAL, study.dir)
    return Shipped(study.dir, run_ids(study.path, LOCAL, study.dir).trials)


@pytest.fixture
def promoted(shipped, network) -> Shipped:
    registry.log_model(
        shipped.trials[1],
        network,
        IMAGES,
        store.client(LOCAL, shipped.dir),
        facts={"classes": CLASSES},
    )
    registry.promote("smoothing", LOCAL, shipped.dir)
    return shipped


def test_the_champion_answers_as_the_network_that_was_logged(promoted, network):
    loaded = registry.load(LOCAL, promoted.dir)
    np.testing.assert_allclose(
        loaded.predict(IMAGES, verbose=0), network.predict(IMAGES, verbose=0), rtol=1e-6
    )
    assert registry.model_metadata(LOCAL, promoted.dir, alias="champion")["classes"] == CLASSES
    same = [
        registry.load(LOCAL, promoted.dir, version=1),
        registry.load(LOCAL, promoted.dir, run=promoted.trials[1]),
    ]
    assert [model.count_params() for model in same] == [network.count_params()] * 2


def test_a_logged_model_says_what_it_takes_gives_and_was_made_with(shipped, network):
    import keras

    info = registry.log_model(
        shipped.trials[1],
        network,
        IMAGES,
        store.client(LOCAL, shipped.dir),
        facts={"classes": CLASSES},
    )
    (images,), (logits,) = info.signature.inputs, info.signature.outputs
    assert (images.type, images.shape) == (np.dtype(np.uint8), (-1, 8, 8, 3))
    assert (logits.type, logits.shape) == (np.dtype(np.float32), (-1, 4))
    assert (
        info.flavors["keras"]["keras_version"] == info.metadata["keras_version"] == keras.version()
    )
    assert info.saved_input_example_info is not None
    files = Path(
        store.client(LOCAL, shipped.dir)
        .get_logged_model(info.model_id)
        .artifact_location.removeprefix("file://")
    )
    assert f"keras=={keras.version()}" in (files / "requirements.txt").read_text()
    assert [path for path in files.rglob("*") if path.suffix in (".pkl", ".pickle")] == []


def test_logging_a_model_again_returns_the_first(shipped, network):
    client = store.client(LOCAL, shipped.dir)
    first = registry.log_model(shipped.trials[1], network, IMAGES, client)
    again = registry.log_model(shipped.trials[1], network, IMAGES, client)
    assert (again.model_id, again.signature) == (first.model_id, first.signature)
    experiment = client.get_run(shipped.trials[1]).info.experiment_id
    assert len(client.search_logged_models([experiment])) == 1


def test_promoting_twice_makes_one_version(promoted):
    again = registry.promote("smoothing", LOCAL, promoted.dir, evidence={"seeds": "3"})
    assert (str(again.version), again.aliases, again.tags["seeds"]) == ("1", ["champion"], "3")


def test_another_run_becomes_another_version_and_takes_the_alias(promoted, network):
    registry.log_model(promoted.trials[0], network, IMAGES, store.client(LOCAL, promoted.dir))
    second = registry.promote("smoothing", LOCAL, promoted.dir, run=promoted.trials[0])
    client = store.client(LOCAL, promoted.dir)
    assert (
        str(client.get_model_version_by_alias("flowersweep", "champion").version)
        == str(second.version)
        == "2"
    )
    assert second.run_id == promoted.trials[0]


def test_mlflow_can_serve_the_model_by_itself(promoted, network, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")
    mlflow.set_tracking_uri(store.address(LOCAL, promoted.dir))
    try:
        served = mlflow.pyfunc.load_model("models:/flowersweep@champion")
        np.testing.assert_allclose(
            served.predict(IMAGES), network.predict(IMAGES, verbose=0), rtol=1e-6
        )
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (
            lambda dir: registry.promote("smothing", LOCAL, dir),
            'no study "smothing". Studies: smoothing. Did you mean "smoothing"',
        ),
        (lambda dir: registry.promote("smoothing", LOCAL, dir), "has no model in MLflow"),
        (lambda dir: registry.load(LOCAL, dir), 'no model is registered as "flowersweep"'),
        (lambda dir: registry.load(LOCAL, dir, run="0" * 32), 'has no run "0000'),
    ],
    ids=["unknown study", "no model", "nothing registered", "unknown run"],
)
def test_what_is_not_there_is_said_with_what_is(shipped, ask, answer):
    with pytest.raises(TrackingError, match=answer.replace('"', ".")):
        ask(shipped.dir)


@pytest.mark.parametrize(
    ("choice", "answer"),
    [
        ({"alias": "champoin"}, 'Aliases: champion. Did you mean "champion"'),
        ({"version": 7}, "no version 7. Versions: 1"),
    ],
    ids=["alias", "version"],
)
def test_unknown_aliases_and_versions_are_named_beside_those_there_are(promoted, choice, answer):
    with pytest.raises(TrackingError, match=answer):
        registry.load(LOCAL, promoted.dir, **choice)


def test_a_model_that_carries_code_is_not_loaded(shipped):
    import keras

    images = keras.Input((8, 8, 3))
    halved = keras.layers.Lambda(lambda pixels: pixels / 2)(images)
    carrier = keras.Model(
        images, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(halved))
    )
    registry.log_model(shipped.trials[0], carrier, IMAGES, store.client(LOCAL, shipped.dir))
    with pytest.raises(TrackingError, match="code that is not Keras's own"):
        registry.load(LOCAL, shipped.dir, run=shipped.trials[0])


def test_nothing_is_written_outside_the_folder_given(promoted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry.promote("smoothing", LOCAL, promoted.dir, alias="challenger")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlruns"]
