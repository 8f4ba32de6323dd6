"""What MLflow opens a registered model with, as a function and as a server.

``mlflow.pyfunc.load_model`` and ``mlflow models serve`` import this module: each logged model names
it, so it must keep its place. Nothing that a model brings is run.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml

from flowersweep.data.images import Images
from flowersweep.data.unlabelled.reading import read_pictures
from flowersweep.data.unlabelled.sources import Entry
from flowersweep.errors import DataError
from flowersweep.evaluation.calibration import probabilities
from flowersweep.models.cpu.inference import CpuNetwork, predictor

NETWORK = "data/model.keras"
BATCH = 64

Answer = dict[str, Any]  # of one image: class, label, probability, probabilities by class name


class ServedModel:
    """A classifier that answers with class names and probabilities."""

    def __init__(self, network: keras.Model | CpuNetwork, classes: list[str], resize: str) -> None:
        self.network = network
        self.classes = classes
        self.resize = resize

    def predict(self, data: Any, params: Any = None) -> list[Answer]:
        """Return an answer for each image.

        Args:
            data: Images in 0..255, (n, H, W, 3) or one (H, W, 3) in the model's size; or the bytes
                of image files, as they are or as base64 text. A table's first column counts.
            params: Nothing; MLflow gives it.

        Raises:
            DataError: What came is no image.
        """
        images = self._images(_column(data))
        batches = [images[first : first + BATCH] for first in range(0, len(images), BATCH)]
        logits = [np.asarray(self.network.predict_on_batch(batch)) for batch in batches]
        return [self._answer(row) for part in logits for row in probabilities(part)]

    def _images(self, data: Any) -> np.ndarray:
        if isinstance(data, str | bytes):
            data = [data]
        size = self.network.input_shape[1:3]
        if len(data) and all(isinstance(value, str | bytes) for value in data):
            entries = [Entry(str(place), "", _decoded(value)) for place, value in enumerate(data)]
            return np.stack(
                [
                    _require_pixels(*picture)
                    for picture in read_pictures(entries, size, self.resize, ahead=BATCH)
                ]
            )
        try:
            pixels = np.asarray(data, np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"neither images nor base64 text: {error}") from error
        pixels = pixels[np.newaxis] if pixels.ndim == 3 else pixels
        if pixels.shape[1:] != (*size, 3) or not len(pixels):
            raise DataError(
                f"images have the shape {pixels.shape}, and must have (n, {size[0]}, {size[1]}, "
                "3). Send files as base64 text to have them resized"
            )
        return pixels

    def _answer(self, chances: np.ndarray) -> Answer:
        label = int(chances.argmax())
        return {
            "class": self.classes[label],
            "label": label,
            "probability": float(chances[label]),
            "probabilities": dict(zip(self.classes, chances.tolist(), strict=True)),
        }


def _load_pyfunc(path: str) -> ServedModel:
    """Open the model in a folder of MLflow's; Keras opens the network in safe mode."""
    described = yaml.safe_load(Path(path, "MLmodel").read_text(encoding="utf-8"))
    facts = described["metadata"]
    network = keras.models.load_model(
        Path(path, NETWORK), custom_objects=None, compile=False, safe_mode=True
    )
    resize = facts.get("data", {}).get("resize", "stretch")
    return ServedModel(predictor(network), facts["classes"], resize)


def _column(data: Any) -> Any:
    """Return the images in what MLflow hands over: a table, a dictionary or the images."""
    if hasattr(data, "iloc"):
        return data.iloc[:, 0].tolist()
    if isinstance(data, dict):
        return next(iter(data.values()), [])
    return data.tolist() if isinstance(data, np.ndarray) and data.dtype.kind in "OSU" else data


def _decoded(value: str | bytes) -> bytes | DataError:
    """Return the bytes of a file: base64 text, with or without the head of a data URL."""
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value.rpartition("base64,")[2], validate=True)
    except binascii.Error as error:
        return DataError(f"no base64 text ({error})")


def _require_pixels(entry: Entry, pixels: Images | None, error: str) -> Images:
    if pixels is None:
        raise DataError(f"image {entry.name}: {error}")
    return pixels
