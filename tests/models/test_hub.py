"""Backbones of keras-hub: built from a preset as the library builds it, and nothing else."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from flowersweep.config.schema import Model
from flowersweep.errors import ConfigError
from flowersweep.models.classifier import Classifier, build
from tests.models.presets import (
    FAMILIES,
    SIZE,
    TOKENS,
    checkpoint_of_transformers,
    saved,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="keras-hub is not installed"
)
# those that take long to compile
SLOW = dict.fromkeys(("dinov2", "hgnetv2", "mobilenet_v5", "siglip", "swin"), pytest.mark.slow)
PIXELS = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)


def model_of(preset: Path | str, **settings: Any) -> Model:
    return replace(
        Model("hub", {"_target_": "keras_hub"}, weights="preset", preset=str(preset)), **settings
    )


def built(config: Model, size: int = SIZE, *, finetune: bool = False) -> Classifier:
    return build(config, image_size=(size, size), classes=3, lower=False, finetune=finetune)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folders: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in folders:
            folders[family] = saved(family, tmp_path_factory.mktemp(family))
        return folders[family]

    return get


def of_the_library(folder: Path, images: np.ndarray) -> Any:
    """What the library itself makes of images: its preprocessing and its backbone."""
    import keras_hub

    network = keras_hub.models.Backbone.from_preset(str(folder))
    network = getattr(network, "vision_encoder", network)
    pixels = keras_hub.layers.ImageConverter.from_preset(str(folder))(images.astype("float32"))
    if hasattr(network, "head"):  # its tokens too, which it pools by itself
        network = keras.Model(network.input, [network.output, network.head.input])
    outputs = network.predict_on_batch(keras.tree.pack_sequence_as(network.input, [pixels]))
    return outputs[network.stage_names[-1]] if isinstance(outputs, dict) else outputs


def expected_of(family: str, outputs: Any) -> np.ndarray:
    """The class token and the mean of the 16 patches, or what there is of both."""
    if family == "siglip":
        return np.concatenate([outputs[0], outputs[1].mean(axis=1)], axis=1)
    if outputs.ndim == 4:
        return np.asarray(outputs.mean(axis=(1, 2)))
    before = {"vit": 1, "deit": 2, "dinov2": 3, "dinov3": 5, "swin": 0}[family]
    mean = outputs[:, before:].mean(axis=1)
    return np.concatenate([outputs[:, 0], mean], axis=1) if before else np.asarray(mean)


@pytest.mark.parametrize("family", [pytest.param(f, marks=SLOW.get(f, ())) for f in FAMILIES])
def test_frozen_features_are_those_of_the_library(family: str, preset: Any) -> None:
    folder = preset(family)
    whole = "both" if family in TOKENS and family != "swin" else "auto"
    made = built(model_of(folder, pooling=whole))
    expected = expected_of(family, of_the_library(folder, PIXELS))
    actual = made.pooled.predict_on_batch(PIXELS)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert made.pretrained.startswith("preset-")


def test_tokens_are_pooled_as_asked(preset: Any) -> None:
    config = model_of(preset("vit"))
    token, mean, auto, both = (
        built(replace(config, pooling=pooling)).pooled.predict_on_batch(PIXELS)
        for pooling in ("class_token", "mean", "auto", "both")
    )
    np.testing.assert_array_equal(auto, token)
    np.testing.assert_allclose(both, np.concatenate([token, mean], axis=1), atol=1e-6)


def test_feature_maps_have_no_tokens_to_pool(preset: Any) -> None:
    with pytest.raises(ConfigError, match="has feature maps and no tokens"):
        built(model_of(preset("resnet"), pooling="mean"))


@pytest.mark.slow
def test_a_network_without_a_class_token_says_so(preset: Any) -> None:
    with pytest.raises(ConfigError, match=r"has no class token\. Use mean"):
        built(model_of(preset("swin"), pooling="both"))


@pytest.mark.parametrize(
    "family",
    ["vit", *(pytest.param(f, marks=pytest.mark.slow) for f in ("siglip", "swin", "dinov2"))],
)
def test_another_image_size_resizes_position_embeddings(family: str, preset: Any) -> None:
    made = built(model_of(preset(family), image_size=60))
    [shape] = {
        tuple(each.image_shape)
        for each in made.pooled._flatten_layers()
        if isinstance(each, keras.Model) and hasattr(each, "image_shape")
    }
    assert shape == (64, 64, 3)  # whole patches
    assert np.isfinite(made.pooled.predict_on_batch(PIXELS)).all()


def test_position_embeddings_of_a_smooth_grid_stay_the_grid() -> None:
    from flowersweep.models.hub.tokens import _resized

    row = np.linspace(0.0, 1.0, 8, dtype=np.float32)
    grid = np.stack([*np.meshgrid(row, row)], axis=-1).reshape(64, 2)
    table = np.concatenate([np.full((1, 2), 7.0, np.float32), grid])
    resized = _resized(table, (257, 2))
    np.testing.assert_array_equal(resized[0], [7.0, 7.0])
    wanted = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7) / 7
    inside = resized[1:].reshape(16, 16, 2)[4:12, 4:12]
    np.testing.assert_allclose(inside[..., 0], np.tile(wanted[4:12], (8, 1)), atol=0.01)


def test_a_network_sees_its_own_size_unless_the_data_or_the_model_name_one(preset: Any) -> None:
    from flowersweep.models.classifier import sized

    config = model_of(preset("vit"))
    sizes = [
        built(sized(replace(config, image_size=own), data), size=48).pretrained
        for own, data in ((None, None), (None, 48), (48, 32), (SIZE, None))
    ]
    assert sizes[0] == sizes[3] != sizes[1] == sizes[2]


def test_the_name_of_features_changes_with_weights_preprocessing_and_pooling(
    preset: Any, tmp_path: Path
) -> None:
    config = model_of(preset("vit"))
    again = saved("vit", tmp_path / "other weights")
    rescaled = saved("vit", tmp_path / "other scale")
    for file in preset("vit").iterdir():  # the same weights
        (rescaled / file.name).write_bytes(file.read_bytes())
    scaling = json.loads((rescaled / "image_converter.json").read_text())
    scaling["config"]["scale"] = 0.5
    (rescaled / "image_converter.json").write_text(json.dumps(scaling))
    models = [config, replace(config, pooling="mean"), model_of(again), model_of(rescaled)]
    names = [built(model).pretrained for model in models]
    assert len({*names}) == 4
    assert built(config).pretrained == names[0]


@pytest.mark.parametrize("family", ["vit", pytest.param("siglip", marks=pytest.mark.slow)])
def test_a_preset_computes_in_the_precision_that_is_asked_for(family: str, preset: Any) -> None:
    config = model_of(preset(family))
    made = build(
        config,
        image_size=(SIZE, SIZE),
        classes=3,
        lower=False,
        finetune=False,
        precision="mixed_bfloat16",
    )
    kinds = keras.layers.Dense, keras.layers.EinsumDense
    dense = [each for each in made.backbone._flatten_layers() if isinstance(each, kinds)]
    assert {each.compute_dtype for each in dense} == {"bfloat16"}
    assert {v.dtype for v in made.backbone.trainable_variables} == {"float32"}
    features = made.pooled.predict_on_batch(PIXELS)
    assert features.dtype == np.float32
    np.testing.assert_allclose(
        features, built(config).pooled.predict_on_batch(PIXELS), atol=0.1 * np.abs(features).max()
    )


def test_what_is_saved_opens_in_safe_mode_and_computes_the_same(
    preset: Any, tmp_path: Path
) -> None:
    made = built(model_of(preset("vit")))
    made.model.save(tmp_path / "model.keras")
    opened = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(
        opened.predict_on_batch(PIXELS), made.model.predict_on_batch(PIXELS), atol=1e-6
    )


HOSTILE = [
    {"module": "evil", "class_name": "Evil", "config": {}, "registered_name": "Evil"},
    {"module": "os", "class_name": "system", "config": {}, "registered_name": "system"},
    {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None},
    {"class_name": "__lambda__", "config": {"value": "aa"}},
    {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "eval"},
]


@pytest.mark.parametrize("file", ["config.json", "image_converter.json"])
@pytest.mark.parametrize("named", HOSTILE, ids=lambda named: named["class_name"])
def test_a_folder_of_a_stranger_runs_nothing(
    file: str,
    named: dict[str, Any],
    preset: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "preset"
    folder.mkdir()
    for each in preset("vit").iterdir():
        (folder / each.name).write_bytes(each.read_bytes())
    content = json.loads((folder / file).read_text())
    content["config"]["activation"] = [named]
    (folder / file).write_text(json.dumps(content))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nEvil = dict\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="is no layer or network of keras-hub"):
        built(model_of(folder))
    (folder / file).write_text(json.dumps(named))
    with pytest.raises(ConfigError, match="is no layer or network of keras-hub"):
        built(model_of(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_224_imagenett", 'Did you mean "vit_base_patch16_224_imagenet"?'),
        ("./nowhere", "names the folder ./nowhere, which is not there"),
        ("gs://bucket/preset", "must be a name of keras-hub, a folder"),
    ],
)
def test_a_preset_that_is_none_is_said_so(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        built(model_of(name))


def test_no_preset_a_network_for_text_and_a_folder_without_preprocessing_are_refused(
    tmp_path: Path,
) -> None:
    import keras_hub

    with pytest.raises(ConfigError, match=r"needs model\.preset=NAME or a folder"):
        built(Model("hub", {"_target_": "keras_hub"}, weights="preset"))
    folder = saved("vit", tmp_path / "bare", converter=False)
    with pytest.raises(ConfigError, match=r"has no image_converter\.json"):
        built(model_of(folder))
    text = keras_hub.models.SigLIPTextEncoder(
        vocabulary_size=8, embedding_dim=4, hidden_dim=4, num_layers=1, num_heads=1,
        intermediate_dim=4,
    )  # fmt: skip
    text.save_to_preset(str(tmp_path / "text"))
    with pytest.raises(ConfigError, match="is no preset of keras-hub for images"):
        built(model_of(tmp_path / "text"))


def test_without_a_network_a_message_says_how_to_carry_weights_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import kagglehub

    def away(*_: object) -> str:
        raise ConnectionError("no route to api.kaggle.com")

    monkeypatch.setattr(kagglehub, "model_download", away)
    with pytest.raises(ConfigError, match=r"no route.*model_download\('keras/dinov2/keras/dinov2_"):
        built(model_of("dinov2_small"))


def test_every_option_file_names_a_preset_for_images() -> None:
    import keras_hub
    import yaml

    from flowersweep.models.hub.presets import image_presets

    for path in (Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"):
        config = Model(**yaml.safe_load(path.read_text()))
        if config.preset is not None:
            assert config.preset in image_presets(keras_hub), path.name


def test_a_checkpoint_of_transformers_is_converted_with_its_preprocessing(tmp_path: Path) -> None:
    arrays = checkpoint_of_transformers(tmp_path / "vit")
    made = built(model_of(tmp_path / "vit"))
    scaled = (PIXELS / 255 - [0.5, 0.4, 0.3]) / [0.5, 0.25, 0.2]
    expected = vit_by_hand(scaled, arrays)
    np.testing.assert_allclose(made.pooled.predict_on_batch(PIXELS), expected, rtol=1e-3, atol=1e-3)


def vit_by_hand(pixels: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The class token of the vision transformer of one block, as its authors' formulas have it."""
    from scipy.special import erf, softmax

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return np.asarray(x @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"])

    def normed(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-6)
        return np.asarray(centred / scale * arrays[f"{name}.weight"] + arrays[f"{name}.bias"])

    def by_head(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], 2, 4).swapaxes(1, 2)

    kernel = arrays["vit.embeddings.patch_embeddings.projection.weight"]
    patches = pixels.reshape(-1, 4, 8, 4, 8, 3).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 16, 192)
    x = patches @ kernel.reshape(8, 192).T
    x = x + arrays["vit.embeddings.patch_embeddings.projection.bias"]
    first = np.broadcast_to(arrays["vit.embeddings.cls_token"], (len(x), 1, 8))
    x = np.concatenate([first, x], axis=1) + arrays["vit.embeddings.position_embeddings"]
    block = "vit.encoder.layer.0."
    y = normed(x, f"{block}layernorm_before")
    attention = f"{block}attention.attention."
    query, key, value = (by_head(dense(y, f"{attention}{n}")) for n in ("query", "key", "value"))
    seen = softmax(query @ key.swapaxes(-1, -2) / 2.0, axis=-1) @ value
    seen = seen.swapaxes(1, 2).reshape(x.shape)
    x = x + dense(seen, f"{block}attention.output.dense")
    y = dense(normed(x, f"{block}layernorm_after"), f"{block}intermediate.dense")
    x = x + dense(y * (1 + erf(y / np.sqrt(2))) / 2, f"{block}output.dense")
    return normed(x, "vit.layernorm")[:, 0]


def test_a_checkpoint_without_a_converter_is_said_so(tmp_path: Path) -> None:
    checkpoint_of_transformers(tmp_path / "vit")
    (tmp_path / "vit" / "config.json").write_text('{"model_type": "beit"}')
    with pytest.raises(ConfigError, match=r"has no converter for .* model type `'beit'`"):
        built(model_of(tmp_path / "vit"))
    (tmp_path / "vit" / "config.json").write_text('{"architecture": "nfnet_f0"}')
    with pytest.raises(ConfigError, match=r"has no converter for timm .*`'nfnet_f0'`"):
        built(model_of(tmp_path / "vit"))


@pytest.mark.parametrize("text", ["", "3", "[]", "null", '{"registered_name": 1}', "{" * 5000])
def test_a_damaged_folder_is_said_so(text: str, preset: Any, tmp_path: Path) -> None:
    for file in ("config.json", "image_converter.json"):
        for each in preset("vit").iterdir():
            (tmp_path / each.name).write_bytes(each.read_bytes())
        (tmp_path / file).write_text(text)
        with pytest.raises(ConfigError, match=r"model\.preset|is no layer"):
            built(model_of(tmp_path))


def test_weights_of_another_network_are_said_so(preset: Any, tmp_path: Path) -> None:
    for each in preset("vit").iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    other = preset("resnet") / "model.weights.h5"
    (tmp_path / "model.weights.h5").write_bytes(other.read_bytes())
    with pytest.raises(ConfigError, match="is no preset of keras-hub for images"):
        built(model_of(tmp_path))


def test_what_only_presets_take_is_refused_of_other_networks() -> None:
    from flowersweep.config.compose import compose

    for word in ("model.pooling=mean", "model.image_size=64"):
        with pytest.raises(ConfigError, match=r"only networks of a model\.preset take them"):
            compose([word])
        assert compose([word, "model=vit_b16"]).model.preset
