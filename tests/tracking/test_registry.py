"""From a trained network to the champion and back, through a real store."""

from __future__ import annotations

import base64
import io
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowersweep.config.schema import Config, Tracking
from flowersweep.errors import ModelGone, TrackingError
from flowersweep.evaluation.calibration import probabilities
from flowersweep.tracking import registry, store
from flowersweep.tracking.logged import find_model, remove_unfinished
from flowersweep.tracking.shipper import run_ids, sync
from flowersweep.workflows.promotion.searched_study import best_run
from tests.tracking.stored import promote
from tests.written_study import Study

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
    promote("smoothing", LOCAL, shipped.dir)
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
    assert info.metadata["input"] == "uint8 (-1, 8, 8, 3): RGB, 0 to 255, not scaled"
    assert info.metadata["output"] == "float32 (-1, 4): logits"
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


@pytest.fixture
def synced(monkeypatch) -> set[Path]:
    """What was synced so far."""
    paths, sync = set(), os.fsync

    def noted(handle):
        paths.add(Path(os.readlink(f"/proc/self/fd/{handle}")))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    return paths


def test_the_files_of_a_model_are_on_disk_before_it_is_ready(shipped, network, synced, monkeypatch):
    client = store.client(LOCAL, shipped.dir)
    before, finalize = set(), type(client).finalize_logged_model

    def finalized(self, *args):
        before.update(synced)
        return finalize(self, *args)

    monkeypatch.setattr(type(client), "finalize_logged_model", finalized)
    registry.log_model(shipped.trials[1], network, IMAGES, client)
    model = find_model(client, shipped.trials[1])
    folder = store.local_path(model.artifact_location)
    assert folder / "data" / "model.keras" in before
    assert {folder.parent, folder, *folder.rglob("*")} <= before


def test_evidence_is_on_disk_before_the_next_command(promoted, synced):
    version = registry.holder(LOCAL, promoted.dir)
    registry.attach(version, LOCAL, promoted.dir, description="", files={"gate.json": "{}"})
    (file,) = promoted.dir.rglob("gate.json")
    assert {file, file.parent, file.parent.parent} <= synced


def logged(dir, run):
    client = store.client(LOCAL, dir)
    models = client.search_logged_models([client.get_run(run).info.experiment_id])
    return [(model.model_id, str(model.status)) for model in models]


def begun(dir, run):
    """The id of a model that a killed command began to log, with a file of it."""
    client = store.client(LOCAL, dir)
    experiment = client.get_run(run).info.experiment_id
    draft = client.create_logged_model(experiment, name="classifier", source_run_id=run)
    folder = Path(draft.artifact_location.removeprefix("file://"))
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("half")
    return draft.model_id, folder


def test_a_model_that_a_killed_command_began_to_log_is_finished_by_the_next(shipped, network):
    draft, _ = begun(shipped.dir, shipped.trials[1])
    info = registry.log_model(shipped.trials[1], network, IMAGES, store.client(LOCAL, shipped.dir))
    assert info.model_id == draft
    assert logged(shipped.dir, shipped.trials[1]) == [(draft, "READY")]
    registry.load(LOCAL, shipped.dir, run=shipped.trials[1])


def test_a_half_logged_model_of_a_run_that_is_not_the_best_any_more_is_removed(shipped, network):
    _, folder = begun(shipped.dir, shipped.trials[0])
    client = store.client(LOCAL, shipped.dir)
    info = registry.log_model(shipped.trials[1], network, IMAGES, client)
    remove_unfinished(client, shipped.trials.values())
    assert logged(shipped.dir, shipped.trials[1]) == [(info.model_id, "READY")]
    assert not folder.exists()


def test_a_model_whose_files_are_gone_is_said_to_be_and_logging_it_again_restores_it(
    promoted, network
):
    shutil.rmtree(promoted.dir / "artifacts")
    for ask in (registry.load, registry.model_metadata):
        with pytest.raises(ModelGone, match=r"are gone.*Restore them from a copy"):
            ask(LOCAL, promoted.dir)
    client = store.client(LOCAL, promoted.dir)
    before = logged(promoted.dir, promoted.trials[1])
    registry.log_model(promoted.trials[1], network, IMAGES, client, facts={"classes": CLASSES})
    assert logged(promoted.dir, promoted.trials[1]) == before
    assert registry.model_metadata(LOCAL, promoted.dir)["classes"] == CLASSES


def test_a_damaged_model_is_named(promoted):
    path = next(promoted.dir.rglob("model.keras"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrackingError, match="cannot be read"):
        registry.load(LOCAL, promoted.dir)


def test_a_sound_network_that_is_not_the_logged_one_is_named(promoted, network):
    import keras

    other = keras.models.clone_model(network)
    (path,) = promoted.dir.rglob("model.keras")
    other.save(path)
    with pytest.raises(TrackingError, match=r"not the one that was logged.*Restore it"):
        registry.load(LOCAL, promoted.dir)


def test_the_best_trial_is_that_of_the_study_here_and_not_of_another_of_its_name(promoted, network):
    other = Study(promoted.dir / "elsewhere")
    other.write(other.begin(), *other.whole(0), *other.whole(1), other.stop(best=1))
    uri = store.address(LOCAL, promoted.dir)
    sync(other.path, Tracking(uri=uri), other.dir)
    config = Config(study="smoothing", dir=str(promoted.dir))
    assert best_run(config) == promoted.trials[0]  # of equals the first
    renamed = promoted.dir / "studies" / "renamed"
    (promoted.dir / "studies" / "smoothing").rename(renamed)
    assert best_run(replace(config, study="renamed")) == promoted.trials[0]
    with pytest.raises(TrackingError, match=r'2 studies "smoothing".*run=ID'):
        promote("smoothing", LOCAL, promoted.dir)


def moves(dir):
    tags = store.client(LOCAL, dir).get_registered_model("flowersweep").tags
    return [tags[key] for key in sorted(tags) if key.startswith("flowersweep.champion.")]


def test_a_move_whose_note_was_lost_is_noted_by_the_next_command_once(promoted):
    client = store.client(LOCAL, promoted.dir)
    tags = client.get_registered_model("flowersweep").tags
    client.delete_registered_model_tag("flowersweep", next(k for k in tags if "champion" in k))
    for _ in range(2):
        promote("smoothing", LOCAL, promoted.dir)
        assert moves(promoted.dir) == ["version 1 in place of an unknown version: promoted"]


def test_a_champion_that_changed_since_the_comparison_is_not_replaced(promoted, network):
    registry.log_model(promoted.trials[0], network, IMAGES, store.client(LOCAL, promoted.dir))
    second = registry.register("smoothing", LOCAL, promoted.dir, run=promoted.trials[0])
    for compared in ("", "7"):
        with pytest.raises(TrackingError, match="champion is version 1 by now"):
            registry.move_alias(second, LOCAL, promoted.dir, compared_with=compared)
    assert registry.find_run(LOCAL, promoted.dir) == promoted.trials[1]
    registry.move_alias(second, LOCAL, promoted.dir, compared_with="1")
    assert registry.find_run(LOCAL, promoted.dir) == promoted.trials[0]
    assert registry.find_run(LOCAL, promoted.dir, version=1) == promoted.trials[1]


def test_each_comparison_spends_a_part_of_the_error_budget_of_its_images(promoted):
    def count(images, challenger, champion=None):
        return registry.count_comparison(
            LOCAL, promoted.dir, images=images, challenger=challenger, champion=champion
        )

    assert [count("one", "a"), count("one", "b", "a"), count("one", "a")] == [1, 2, 1]
    assert count("two", "b") == 1
    tags = store.client(LOCAL, promoted.dir).get_registered_model("flowersweep").tags
    assert tags["flowersweep.error_budget.one"] == "0.0333 of 0.05 spent"
    assert tags["flowersweep.error_budget.two"] == "0.0250 of 0.05 spent"


def test_promoting_twice_makes_one_version(promoted):
    again = promote("smoothing", LOCAL, promoted.dir, evidence={"seeds": "3"})
    assert (str(again.version), again.aliases, again.tags["seeds"]) == ("1", ["champion"], "3")


def test_another_run_becomes_another_version_and_takes_the_alias(promoted, network):
    registry.log_model(promoted.trials[0], network, IMAGES, store.client(LOCAL, promoted.dir))
    second = promote("smoothing", LOCAL, promoted.dir, run=promoted.trials[0])
    client = store.client(LOCAL, promoted.dir)
    assert (
        str(client.get_model_version_by_alias("flowersweep", "champion").version)
        == str(second.version)
        == "2"
    )
    assert second.run_id == promoted.trials[0]


def test_mlflow_opens_the_model_as_one_that_answers_with_names(promoted, network, monkeypatch):
    import mlflow

    uri = store.address(LOCAL, promoted.dir)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "unset")
    mlflow.set_tracking_uri(uri)
    try:
        served = mlflow.pyfunc.load_model("models:/flowersweep@champion")
        answers = served.predict(IMAGES)
        expected = np.asarray(probabilities(network.predict(IMAGES, verbose=0)))
        assert [answer["class"] for answer in answers] == [
            CLASSES[label] for label in expected.argmax(axis=1)
        ]
        for answer, chances in zip(answers, expected, strict=True):
            assert list(answer["probabilities"]) == CLASSES
            np.testing.assert_allclose(
                [*answer["probabilities"].values()], chances, rtol=1e-4, atol=1e-7
            )
        file = io.BytesIO()
        Image.fromarray(IMAGES[0]).save(file, "PNG")
        text = base64.b64encode(file.getvalue()).decode()
        for form in ([text], np.array([text]), [file.getvalue()], f"data:image/png;base64,{text}"):
            (answer,) = served.predict(form)
            assert answer == answers[0]
    finally:
        mlflow.set_tracking_uri(None)


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (
            lambda dir: promote("smothing", LOCAL, dir),
            'no study "smothing". Studies: smoothing. Did you mean "smoothing"',
        ),
        (lambda dir: promote("smoothing", LOCAL, dir), "has no model in MLflow"),
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
    promote("smoothing", LOCAL, promoted.dir, alias="challenger")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlruns"]
