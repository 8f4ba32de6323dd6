"""Convert a saved network for other runtimes: ``python convert.py NETWORK FORMAT TARGET``.

A script of its own: Keras converts with TensorFlow as its backend (``KERAS_BACKEND``), which a
process chooses once. It needs nothing else of this package.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import keras
from keras import layers, ops

# OpenVINO would tell its maker that it was used
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


class MatrixResizing(layers.Layer):  # type: ignore[misc]
    """Resizing as a product of matrices: other runtimes have no antialiased resizing."""

    def __init__(self, resizing: Any) -> None:
        super().__init__(name=resizing.name, dtype="float32")
        self.resizing = resizing

    def build(self, shape: tuple[int, ...]) -> None:
        resizing = self.resizing
        height, width = getattr(resizing, "size", None) or (resizing.height, resizing.width)
        self.down = _weights(shape[1], height, resizing)
        self.across = _weights(shape[2], width, resizing)

    def call(self, images: Any) -> Any:
        rows = ops.matmul(ops.transpose(images, (0, 3, 2, 1)), self.down)  # (n, C, W, h)
        resized = ops.matmul(ops.transpose(rows, (0, 1, 3, 2)), self.across)  # (n, C, h, w)
        return ops.transpose(resized, (0, 2, 3, 1))


def convert(network: str, format: str, target: str) -> list[int]:
    """Write a network that gives logits as one that gives probabilities.

    The written one takes images float32 (n, H, W, 3) in 0..255 and returns float32 (n, K). Keras
    opens the network in safe mode: nothing that it brings is run. Returns height and width of the
    images.
    """
    keras.config.set_image_data_format("channels_last")
    logits = keras.models.load_model(network, custom_objects=None, compile=False, safe_mode=True)
    if format in ("onnx", "litert", "openvino"):
        logits = _with_matrices(logits)
    images = keras.Input(logits.input_shape[1:], name="images", dtype="float32")
    chances = layers.Softmax(dtype="float32", name="probabilities")(
        logits(images, training=False)  # stored with the call: who opens it need not say so
    )
    model = keras.Model(images, chances, name="classifier")
    model(ops.zeros((1, *images.shape[1:])))  # else the converter to ONNX knows no shapes
    if format == "keras":
        model.save(target)
    else:
        model.export(target, format=format, verbose=False)
    if format == "onnx":
        _require_known_operations(target)
    return [*logits.input_shape[1:3]]


def _with_matrices(model: keras.Model) -> keras.Model:
    """Return a model of the same layers, nested models included, that resizes by matrices."""
    return keras.models.clone_model(
        model,
        clone_function=lambda layer: (
            # a layer, or a bare operation
            MatrixResizing(layer) if getattr(layer, "antialias", False) else layer
        ),
        recursive=True,
    )


def _weights(before: int, after: int, resizing: Any) -> Any:
    """Return how much each of ``before`` pixels counts in each of ``after``: (before, after)."""
    sides = ops.expand_dims(ops.eye(before), -1)  # an image whose columns are one pixel each
    resized = ops.image.resize(
        sides,
        (before, after),
        interpolation=resizing.interpolation,
        antialias=resizing.antialias,
    )
    return ops.convert_to_numpy(resized)[..., 0]


def _require_known_operations(path: str) -> None:
    """Raise for operations that ONNX does not have: the converter writes them with a warning."""
    import onnx

    onnx.checker.check_model(path)


if __name__ == "__main__":
    try:
        print(json.dumps(convert(*sys.argv[1:])))
    except Exception as error:  # whatever a converter raises, one line of it is the message
        sys.exit(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
