"""An exported model, opened again by its own runtime, says what the registered one says."""

from __future__ import annotations

import json
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowersweep.__main__ import main
from flowersweep.config.schema import Config, Tracking
from flowersweep.errors import ConfigError, TrackingError
from flowersweep.evaluation.calibration import probabilities
from flowersweep.models.ensemble_model import build_ensemble_model
from flowersweep.tracking import registry
from flowersweep.workflows.export import export
from tests.workflows.conftest import promote
from tests.written_study import Study

NEEDED = {
    "onnx": ("tf2onnx", "onnxruntime"),
    "litert": ("ai_edge_litert",),
    "openvino": ("openvino",),
}


def opened(folder: Path, format: str, images: np.ndarray) -> np.ndarray:
    """Return the probabilities of images by the runtime of a format."""
    if format == "keras":
        import keras

        return np.asarray(
            keras.models.load_model(folder / "model.keras").predict(images, verbose=0)
        )
    if format == "saved_model":
        import tensorflow as tf

        model = tf.saved_model.load(str(folder / "saved_model"))
        return np.asarray(model.serve(images))
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx")
        return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])
    if format == "litert":
        from ai_edge_litert.interpreter import Interpreter

        call = Interpreter(str(folder / "model.tflite")).get_signature_runner()
        return np.asarray(next(iter(call(images=images).values())))
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16 on some CPUs
    return np.asarray(openvino.compile_model(folder / "model.xml", "CPU", exact)(images)[0])


def require_runtime(format: str) -> None:
    """Skip a test whose runtime is not installed."""
    if missing := [name for name in NEEDED.get(format, ()) if find_spec(name) is None]:
        pytest.skip(f"format={format} needs {' and '.join(missing)}: pip install -e '.[export]'")


def require_same(folder: Path, format: str, expected: np.ndarray, images: np.ndarray) -> None:
    """Raise AssertionError unless the exported model says what is expected of images."""
    actual = opened(folder, format, images)
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).all()
    np.testing.assert_allclose(opened(folder, format, images[:1]), expected[:1], atol=1e-3)


def pixels(side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (70, side, side, 3)).astype(np.float32)


# OpenVINO begins a process to look at the machine
@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.parametrize(
    "format",
    ["keras", "saved_model", *(pytest.param(name, marks=pytest.mark.slow) for name in NEEDED)],
)
def test_each_format_gives_the_probabilities_of_the_registered_model(
    format: str,
    champion: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    require_runtime(format)
    folder, images = tmp_path / "out", pixels(32)
    assert main(["export", f"format={format}", f"output={folder}", f"dir={champion.dir}"]) == 0
    assert f"{folder / 'classify.py'} PHOTOGRAPH" in capsys.readouterr().out
    model = registry.load(Tracking(), Path(champion.dir), alias="champion")
    expected = probabilities(np.asarray(model.predict(images, verbose=0)))
    require_same(folder, format, expected, images)

    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert description["image_size"] == [32, 32]
    assert description["resize"] == "stretch"
    classes = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert classes == description["classes"]
    Image.fromarray(images[3].astype(np.uint8)).save(tmp_path / "photo.png")
    monkeypatch.setattr(sys, "argv", ["classify.py", str(tmp_path / "photo.png")])
    runpy.run_path(str(folder / "classify.py"), run_name="__main__")
    _, name, probability = capsys.readouterr().out.strip().splitlines()[-1].split("\t")
    assert name == classes[expected[3].argmax()]
    assert float(probability) == pytest.approx(expected[3].max(), abs=1e-3)
    assert len((folder / "README.md").read_text().splitlines()) <= 12


@pytest.mark.slow
@pytest.mark.parametrize("format", ["keras", "saved_model", *NEEDED])
def test_an_ensemble_of_two_image_sizes_is_exported_whole(
    format: str, study: Study, tmp_path: Path
) -> None:
    """Other runtimes have no antialiased resizing."""
    require_runtime(format)
    import keras

    keras.utils.set_random_seed(0)
    parts = []
    for name, side in (("first", 32), ("second", 20)):
        images = keras.Input((side, side, 3))
        maps = keras.layers.Conv2D(6, 3, strides=2)(keras.layers.Rescaling(1 / 64, -2)(images))
        normalised = keras.layers.BatchNormalization(name=f"{name}_norm")
        pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(normalised(maps)))
        head = keras.layers.Dense(4, name=f"{name}_head")
        network = keras.Model(images, pooled, name=name)
        head.build((None, 6))
        normalised.moving_variance.assign(np.linspace(0.2, 3, 6))
        normalised.moving_mean.assign(np.linspace(-1, 1, 6))
        parts.append((network, head))
    network = build_ensemble_model(parts, temperatures=[0.3, 0.2], image_size=(32, 32))
    promote(study, network, ["a", "b", "c", "d"])
    config = Config(dir=str(study.dir), format=format, output=str(tmp_path / "out"))
    expected = probabilities(np.asarray(network.predict(pixels(32), verbose=0)))
    require_same(export(config), format, expected, pixels(32))


def test_what_cannot_be_exported_is_refused_before_a_model_is_sought(
    mlruns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no model in this store: only the words can be what is wrong."""
    monkeypatch.chdir(tmp_path)
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    (tmp_path / "empty").mkdir()
    for words, message in {
        ("onxn", "out"): 'export writes: keras, litert, onnx.* Did you mean "onnx"',
        ("keras", "full"): "output=full: is there already",
        ("keras", "no/where"): "must be a new folder in one that exists",
    }.items():
        format, output = words
        with pytest.raises(ConfigError, match=message):
            export(Config(dir=str(mlruns), format=format, output=output))
    with pytest.raises(TrackingError, match="no model is registered"):
        export(Config(dir=str(mlruns), format="keras", output="empty"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full", "mlruns"]


@pytest.mark.skipif(find_spec("tf2onnx") is not None, reason="tf2onnx is installed")
def test_a_missing_converter_is_named(mlruns: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"format=onnx needs tf2onnx.*flowersweep\[export\]"):
        export(Config(dir=str(mlruns), format="onnx", output=str(tmp_path / "out")))


@pytest.mark.slow
def test_a_model_with_code_of_its_own_is_not_exported(study: Study, tmp_path: Path) -> None:
    import keras

    def touch(images: Any) -> Any:
        Path(tmp_path / "ran").touch()
        return images

    images = keras.Input((8, 8, 3))
    coded = keras.layers.Lambda(touch, output_shape=(8, 8, 3))(images)
    network = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(coded)))
    promote(study, network, ["a", "b"])
    (tmp_path / "ran").unlink(missing_ok=True)
    config = Config(dir=str(study.dir), format="keras", output=str(tmp_path / "out"))
    with pytest.raises(TrackingError, match=r"cannot be written as model\.keras"):
        export(config)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()
