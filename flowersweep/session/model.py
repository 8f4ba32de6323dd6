"""A registered model, to predict with in Python."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowersweep.config.schema import Config
from flowersweep.data.unlabelled.sources import Entry, find_images
from flowersweep.errors import DataError
from flowersweep.models.cpu.inference import predictor
from flowersweep.serving import Answer, ServedModel
from flowersweep.tracking import registry
from flowersweep.workflows.predict import chosen_run, load_network

if TYPE_CHECKING:
    import pandas as pd


class Model:
    """A classifier from MLflow's registry.

    Attributes:
        run: The MLflow run that it comes from.
        classes: The names of its classes, in the order of its outputs.
        facts: What its metadata say: images, temperatures, versions.
        network: The Keras model, from images in 0..255 (n, H, W, 3) to logits (n, K).
    """

    def __init__(self, run: str, network: Any, facts: Mapping[str, Any]) -> None:
        self.run, self.network, self.facts = run, network, facts
        self.classes = [str(name) for name in facts["classes"]]
        resize = facts.get("data", {}).get("resize", "stretch")
        self._served = ServedModel(predictor(network), self.classes, str(resize))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that images are brought to."""
        height, width = self.network.input_shape[1:3]
        return height, width

    def predict(self, images: Any) -> pd.DataFrame:
        """Return class, label and probability of each image.

        Args:
            images: A file, a folder, a glob, a table of paths; the bytes of an image file; pixels
                0..255, (n, H, W, 3) or (H, W, 3); a picture of Pillow; or a list of files, bytes,
                pixels or pictures. Files are brought to the model's size as in training. An array
                of pixels must have it.

        Raises:
            DataError: There are no images, or one of them cannot be read.
        """
        import pandas as pd

        names, answers = self._answers(images)
        columns = ["class", "label", "probability"]
        return pd.DataFrame(answers, index=pd.Index(names, name="image"), columns=columns)

    def probabilities(self, images: Any) -> pd.DataFrame:
        """Return the probability of each class, (n, K), for images as `predict` takes them."""
        import pandas as pd

        names, answers = self._answers(images)
        rows = [answer["probabilities"] for answer in answers]
        return pd.DataFrame(rows, index=pd.Index(names, name="image"), columns=self.classes)

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"a model of {len(self.classes)} classes for {height}x{width} pixels, run {self.run}"

    def _answers(self, images: Any) -> tuple[list[str], list[Answer]]:
        if isinstance(images, np.ndarray):
            answers = self._served.predict(images)
            return [str(number) for number in range(len(answers))], answers
        entries = list(_entries(images))
        if not entries:
            raise DataError("there is no image to predict")
        return [entry.name for entry in entries], self._served.predict(list(map(_bytes, entries)))


def load_model(config: Config) -> Model:
    """Return the model of ``run``, ``version`` or ``alias``.

    Raises:
        ConfigError: Several of them are named.
        TrackingError: There is no such model.
    """
    run = chosen_run(config)
    facts = registry.model_metadata(config.tracking, Path(config.dir), run=run)
    return Model(run, load_network(config, run), facts)


def _entries(images: Any) -> Iterable[Entry]:
    """Yield the images that a person means, by name."""
    if isinstance(images, str | PathLike):
        yield from find_images(fspath(images))
    elif isinstance(images, bytes) or hasattr(images, "save"):
        yield Entry("0", "0", _encoded(images))
    else:
        for number, image in enumerate(images):
            if isinstance(image, str | PathLike):
                yield Entry(fspath(image), str(number), Path(image).expanduser())
            else:
                yield Entry(str(number), str(number), _encoded(image))


def _encoded(image: Any) -> bytes:
    """Return an image as the bytes of a file: a picture of Pillow's, or pixels, as PNG."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, np.ndarray):
        from flowersweep.data.images import compress_losslessly

        return compress_losslessly(image)
    if not hasattr(image, "save"):
        raise DataError(f"{image!r} is no image: a path, bytes, pixels or a picture of Pillow")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _bytes(entry: Entry) -> bytes:
    if isinstance(entry.content, DataError):
        raise entry.content
    if isinstance(entry.content, bytes):
        return entry.content
    try:
        return entry.content.read_bytes()
    except OSError as error:
        raise DataError(f"{entry.name} cannot be read: {error.strerror}") from error
