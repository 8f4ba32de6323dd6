"""The classifier: from configuration to a network that is saved, loaded and taken apart."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml

from flowersweep.config.schema import Model
from flowersweep.errors import ConfigError
from flowersweep.models.classifier import FEATURE_LENGTH, Classifier, build

CONF = Path(__file__).parents[2] / "conf" / "model"
SLOW = {
    *("convnext_tiny", "densenet201", "efficientnet_b7", "efficientnet_lite2"),
    *("efficientnet_v2_b0", "efficientnet_v2_s", "mobilenet_v2", "mobilenet_v3_large", "resnet50"),
}
LITE = {"_target_": "efficientnet_lite0"}
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
MODES = {"tf": "mobilenet_v2", "torch": "densenet", "caffe": "resnet"}


def small(
    *, input_shape: Any, include_top: bool = False, weights: str | None = None, filters: int = 6
) -> keras.Model:
    images = keras.Input(input_shape)
    maps = keras.layers.Conv2D(filters, 3, strides=2, name="stem")(images)
    maps = keras.layers.DepthwiseConv2D(3)(keras.layers.BatchNormalization()(maps))
    if weights == "imagenet":
        # as Keras does
        raise Exception("URL fetch failure on https://example.org/weights.h5: None -- no route")
    return keras.Model(images, maps, name="small")


HERE = __name__.partition(".")[0]
SMALL = Model("small", {"_target_": f"{__name__}.small"}, None, weights="none")


def built(config: Model = SMALL, *, lower: bool = False, precision: str = "float32") -> Classifier:
    return build(
        config,
        image_size=(32, 32),
        classes=4,
        lower=lower,
        finetune=False,
        trusted=(HERE,),
        precision=precision,
    )


FILES = [
    pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in SLOW else ())
    for path in sorted(CONF.glob("*.yaml"))
    if "preset" not in yaml.safe_load(path.read_text())  # those must be downloaded
]


@pytest.mark.parametrize("path", FILES)
def test_every_model_of_conf_builds(path: Path) -> None:
    config = Model(**yaml.safe_load(path.read_text()))
    assert config.name == path.stem
    made = build(
        replace(config, weights="none"), image_size=(32, 32), classes=5, lower=False, finetune=False
    )
    assert made.model.output_shape == (None, 5)
    assert (sum(made.widths), made.heads[0].kernel.shape[1]) == (made.features.output_shape[-1], 5)


def test_weights_that_are_read_are_not_drawn_before(tmp_path: Path) -> None:
    path = tmp_path / "small.weights.h5"
    small(input_shape=(32, 32, 3)).save_weights(path)
    made = built(replace(SMALL, weights=str(path)))
    stem = made.backbone.get_layer("backbone").get_layer("small").get_layer("stem")
    assert isinstance(stem.kernel_initializer, keras.initializers.Zeros)
    assert np.std(stem.kernel) > 0


def test_a_function_that_reads_no_weights_gets_random_ones() -> None:
    config = Model("tiny", {"_target_": "tiny_backbone"}, None, weights="imagenet")
    made = build(config, image_size=(32, 32), classes=4, lower=False, finetune=False)
    assert all(np.std(weight) > 0 for weight in made.backbone.weights if "kernel" in weight.path)


@pytest.mark.parametrize("lower", [False, True], ids=["plain", "lowered"])
def test_the_parts_compute_what_the_whole_does(lower: bool) -> None:
    preprocess = {"_target_": "keras.applications.mobilenet_v2.preprocess_input"}
    made = built(replace(SMALL, preprocess=preprocess), lower=lower)
    features = np.asarray(made.features(PIXELS))
    np.testing.assert_allclose(features, made.backbone(PIXELS), atol=1e-5)
    logits = features @ np.asarray(made.heads[0].kernel) + np.asarray(made.heads[0].bias)
    np.testing.assert_allclose(logits, made.model(PIXELS), atol=1e-5)
    np.testing.assert_allclose(made.model(PIXELS), made.model(PIXELS.astype("float32")), atol=1e-5)
    assert [w.shape for w in made.features.weights] == [w.shape for w in made.backbone.weights]
    assert [w.shape for w in made.features.trainable_variables] == [
        w.shape for w in made.backbone.trainable_variables
    ]
    assert made.heads[0].name == "head"
    assert made.model.layers[-1] is made.heads[0]


def test_logits_are_float32_when_the_network_computes_in_bfloat16() -> None:
    before = keras.config.dtype_policy()
    made = built(precision="bfloat16")
    assert keras.config.dtype_policy() == before
    assert made.model(PIXELS).dtype == made.backbone(PIXELS).dtype == "float32"
    assert (
        made.backbone.get_layer("backbone").get_layer("small").get_layer("stem").compute_dtype
        == "bfloat16"
    )


LOAD = """
import sys, keras, numpy as np
for mode in sys.argv[1:]:
    model = keras.models.load_model(f"{mode}.keras", safe_mode=True)
    np.save(f"{mode}-out.npy", model(np.load("pixels.npy")))
assert "flowersweep" not in sys.modules
"""


@pytest.mark.slow
def test_a_saved_model_loads_elsewhere_safely_and_without_this_package(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", PIXELS)
    for mode, module in MODES.items():
        made = built(
            replace(SMALL, preprocess={"_target_": f"keras.applications.{module}.preprocess_input"})
        )
        made.model.save(tmp_path / f"{mode}.keras")
        scaled = keras.applications.imagenet_utils.preprocess_input(
            PIXELS.astype("float32"), mode=mode
        )
        network = made.backbone.get_layer("backbone").get_layer("small")
        views = [
            np.asarray(network(view)).mean(axis=(1, 2)) for view in (scaled, scaled[:, :, ::-1])
        ]
        np.testing.assert_allclose(made.pooled(PIXELS), views[0], rtol=1e-4, atol=1e-4)
        mean = sum(view / np.linalg.norm(view, axis=1, keepdims=True) for view in views) / 2
        np.testing.assert_allclose(
            made.backbone(PIXELS), FEATURE_LENGTH * mean, rtol=1e-3, atol=1e-3
        )
        np.testing.assert_allclose(made.combine(views), FEATURE_LENGTH * mean, rtol=1e-3)
        np.save(tmp_path / f"{mode}.npy", made.model(PIXELS))
    subprocess.run([sys.executable, "-I", "-c", LOAD, *MODES], check=True, cwd=tmp_path)
    for mode in MODES:
        np.testing.assert_allclose(
            np.load(tmp_path / f"{mode}-out.npy"), np.load(tmp_path / f"{mode}.npy"), atol=1e-4
        )


def test_weights_from_a_file_reach_the_backbone(tmp_path: Path) -> None:
    source = small(input_shape=(32, 32, 3))
    source.set_weights([np.full(w.shape, 0.5) for w in source.weights])
    source.save_weights(tmp_path / "small.weights.h5")
    made = built(replace(SMALL, weights=str(tmp_path / "small.weights.h5")), lower=True)
    for part in (made.backbone, made.features):
        assert all((weight == 0.5).all() for weight in part.get_weights())
    assert made.pretrained.startswith("file-")


@pytest.mark.parametrize("name", ["small.keras", "small.h5"])
def test_a_whole_saved_network_is_a_file_of_weights_too(name: str, tmp_path: Path) -> None:
    source = small(input_shape=(32, 32, 3))
    source.set_weights([np.full(w.shape, 0.5) for w in source.weights])
    source.save(tmp_path / name)
    made = built(replace(SMALL, weights=str(tmp_path / name)))
    assert all((weight == 0.5).all() for weight in made.backbone.get_weights())


@pytest.mark.slow
def test_a_network_of_keras_takes_other_weights_than_imagenet_from_a_file(tmp_path: Path) -> None:
    """As those of noisy student are for EfficientNet: the same layers, other numbers."""
    network = {"_target_": "keras.applications.MobileNetV2", "alpha": 0.35}
    config = Model("mobilenet", network, None, weights="none")
    taught = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(48, 48, 3), alpha=0.35
    )
    taught.set_weights([0.5 * weight for weight in taught.get_weights()])
    taught.save_weights(tmp_path / "noisy_student.weights.h5")
    made = built(replace(config, weights=str(tmp_path / "noisy_student.weights.h5")))
    for ours, theirs in zip(made.backbone.get_weights(), taught.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Trap:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("sprung"),)


TRAPS: dict[str, Callable[[Path], Any]] = {
    "weights.pkl": lambda path: path.write_bytes(pickle.dumps(Trap())),
    "weights.npy": lambda path: np.save(path, np.array([Trap()], object), allow_pickle=True),
    "torn.keras": lambda path: path.write_bytes(b"PK\x03\x04torn"),
    "torn.weights.h5": lambda path: path.write_bytes(b"\x89HDF torn"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_what_is_no_file_of_weights_is_refused_and_never_unpickled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    TRAPS[name](tmp_path / name)
    with pytest.raises(ConfigError, match=r"model\.weights names .*do not fit small"):
        built(replace(SMALL, weights=str(tmp_path / name)))
    assert not Path("sprung").exists()


def test_of_a_saved_network_no_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = small(input_shape=(32, 32, 3))
    code = keras.layers.Lambda(lambda maps: Path("sprung").touch() or maps)
    keras.Model(network.input, code(network.output)).save("code.keras")
    Path("sprung").unlink()  # it ran here, when the layer was called
    made = built(replace(SMALL, weights="code.keras"))
    made.model(PIXELS)
    assert not Path("sprung").exists()
    for ours, theirs in zip(made.backbone.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_key_changes_with_weights_arguments_and_preprocessing_only(tmp_path: Path) -> None:
    key = built().pretrained
    assert (
        key
        == built().pretrained
        == built(replace(SMALL, dropout=0.5, name="other"), lower=True).pretrained
    )
    assert key.startswith("none-")
    assert len(key) == len("none-") + 16
    small(input_shape=(32, 32, 3)).save_weights(tmp_path / "other.weights.h5")
    others = [
        replace(SMALL, weights=str(tmp_path / "other.weights.h5")),
        replace(SMALL, backbone={**SMALL.backbone, "filters": 7}),
        replace(SMALL, preprocess={"_target_": "keras.applications.mobilenet_v2.preprocess_input"}),
    ]
    assert len({key, *(built(other).pretrained for other in others)}) == 4


REFUSED = {
    "an untrusted module": (replace(SMALL, backbone={"_target_": "os.system"}), "trusted_modules"),
    "a backbone that does not exist": (
        replace(SMALL, backbone={"_target_": "keras.applications.DenseNet2O1"}),
        "DenseNet2O1",
    ),
    "a download that fails": (
        replace(SMALL, weights="imagenet"),
        "could not be downloaded.*model.weights=none",
    ),
    "a file that is missing": (replace(SMALL, weights="gone.weights.h5"), "no such file"),
    "an unknown argument": (
        replace(SMALL, backbone={**SMALL.backbone, "depth": 3}),
        "unexpected keyword argument 'depth'",
    ),
    "an argument of the wrong kind": (
        replace(SMALL, backbone={**SMALL.backbone, "filters": -1}),
        "cannot be built with",
    ),
}


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_built_is_a_config_error(config: Model, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(config)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    small(input_shape=(32, 32, 3), filters=9).save_weights(tmp_path / "wide.weights.h5")
    with pytest.raises(ConfigError, match="do not fit small"):
        built(replace(SMALL, weights=str(tmp_path / "wide.weights.h5")))


def test_building_leaves_the_random_numbers_of_others_alone() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    built()
    assert random.random() == expected
