"""From a registered model and images to a file of predictions, a row for each image."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowersweep.config.images import recorded_or_named
from flowersweep.config.keys import is_within, key_of, says
from flowersweep.config.schema import Config, Data
from flowersweep.data.dataset import Dataset, Split, open_dataset
from flowersweep.data.images import Images, Size
from flowersweep.data.pipeline import in_order, padded
from flowersweep.data.unlabelled.reading import Picture, read_pictures
from flowersweep.data.unlabelled.sources import Entry, ImageSource, find_images
from flowersweep.errors import ConfigError, DataError
from flowersweep.evaluation.calibration import probabilities
from flowersweep.models.cpu.inference import predictor
from flowersweep.runtime import start
from flowersweep.tracking import registry
from flowersweep.training.augment.views import tta_views
from flowersweep.util.output import open_output, require_output
from flowersweep.workflows.prediction_file import (
    PREDICTION_FORMATS,
    Layout,
    Prediction,
    require_layout,
    write_predictions,
)

BATCH = 64

Watch = Callable[[str, int, int | None], None]  # what, images done, of how many


@dataclass
class Predictions:
    """What was written so far: the file, its images, how many of them the first view alone gives
    another label, how many could not be read, and the images per second after the first batch,
    for which programs are compiled.
    """

    path: Path
    images: int = 0
    changed: int = 0
    broken: int = 0
    first_error: str = ""
    rate: float | None = None


def predict(
    config: Config, overrides: Sequence[str], watch: Watch = lambda what, done, total: None
) -> Predictions:
    """Write a row for every image that ``config.images`` names, or of ``config.split``.

    The probabilities are the mean over ``config.tta_views`` views of the image: the image as it
    is, then its mirror image, then the same two of its central 90 % and 80 %
    (`flowersweep.training.augment.views`). Each takes the network's time once more. Without
    ``images`` the split is that of the images that the model was trained with, unless the command
    line names others. An image that cannot be read is a row that says why.

    Raises:
        ConfigError: The settings contradict each other.
        DataError: There are no images, or their classes are not those of the model.
        TrackingError: There is no such model.
    """
    format = config.format or ("submission" if config.images is None else "csv")
    require_layout(format, top=config.top, probabilities=config.probabilities)
    path = require_output(Path(config.output or PREDICTION_FORMATS[format]), Path(config.dir))
    named = None if config.images is None else _source(config, overrides, format)
    run = chosen_run(config)  # once: somebody may move the alias meanwhile
    facts = registry.model_metadata(config.tracking, Path(config.dir), run=run)
    source = named or _split(config, overrides, facts)
    model = load_predictor(config, run)
    layout = Layout(format, _class_names(facts, model), config.top, config.probabilities)
    predictions = Predictions(path)
    pictures = _pictures(source, model.input_shape[1:3], _resize(facts))
    total = source.total if isinstance(source, ImageSource) else len(source)
    rows = _counted(_rows(model, pictures, config.tta_views), predictions, watch, total)
    with open_output(path) as binary:
        # a name that is no UTF-8 is written with escapes
        text = io.TextIOWrapper(
            binary, "utf-8", errors="backslashreplace", newline="", write_through=True
        )
        write_predictions(text, rows, layout)
        text.detach()  # or it would close the file
    return predictions


def chosen_run(config: Config) -> str:
    """Return the run whose model a command uses: of ``run``, ``version`` or ``alias``.

    Raises:
        ConfigError: ``version`` is not the only one of them.
        TrackingError: There is no such model.
    """
    if config.version is not None and (config.alias or config.run):
        raise ConfigError(
            f"version={config.version} names a model, and so does "
            f"{'alias' if config.alias else 'run'}: leave one of them out"
        )
    return config.run or registry.find_run(
        config.tracking, Path(config.dir), alias=config.alias, version=config.version
    )


def load_predictor(config: Config, run: str) -> Any:
    """Return the model of a run, as fast as this machine can run it: its ``predict_on_batch``.

    Raises TrackingError if there is none.
    """
    return predictor(load_network(config, run))


def load_network(config: Config, run: str) -> Any:
    """Return the Keras model of a run.

    Raises TrackingError if there is none.
    """
    start(Path(config.dir) / "cache" / "compiled")
    return registry.load(config.tracking, Path(config.dir), run=run)


class HoldoutPrediction(NamedTuple):
    """What a model says of the holdout: logits (n, K), labels (n,), and a name of these very
    images.
    """

    logits: np.ndarray
    labels: np.ndarray
    images: str


def predict_holdout(config: Config, run: str) -> HoldoutPrediction:
    """Return what the model of a run predicts on the holdout of the configured images.

    Raises TrackingError if there is no such model, and DataError if the images do not fit it.
    """
    model, dir = load_predictor(config, run), Path(config.dir)
    facts = registry.model_metadata(config.tracking, dir, run=run)
    data = replace(config.data, resize=_resize(facts), extra=[])
    dataset = open_dataset(data, dir / "cache", trusted=tuple(config.trusted_modules))
    if facts["data"].get("train_on") == "all":
        raise DataError(
            "this model was trained on all labelled images, so none is held out to compare it on: "
            "name the run that is its evidence (tag flowersweep.evidence_run of its version)"
        )
    _require_fit(dataset, facts, "val")
    split, size = dataset.splits["val"], model.input_shape[1:3]
    assert split.labels is not None
    batches = padded(split, size, BATCH, dataset.holdout)
    logits = np.concatenate([np.asarray(model.predict_on_batch(images)) for images in batches])
    return HoldoutPrediction(
        logits[: len(dataset.holdout)],
        split.labels[dataset.holdout],
        holdout_name(dataset, config),
    )


def holdout_name(dataset: Dataset, config: Config) -> str:
    """Return a name of the held-out images: another split seed holds out others, and extra images
    none.
    """
    return f"{(dataset.held_out_digest or dataset.digest)[:16]}.{config.data.split_seed}"


def mean_probabilities(model: Any, images: Images, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities (n, K) of up to BATCH images over so many views, and the labels (n,)
    of the first view alone.
    """
    # one shape, one program
    padding = np.zeros((BATCH - len(images), *images.shape[1:]), images.dtype)
    full = np.concatenate([images, padding])
    views = [
        probabilities(np.asarray(model.predict_on_batch(view))[: len(images)])
        for view in tta_views(full, count)
    ]
    return np.mean(views, axis=0), views[0].argmax(axis=1)


def _source(config: Config, overrides: Sequence[str], format: str) -> ImageSource:
    """Return the images that ``images`` names. Raises ConfigError where other words name some."""
    keys = [key_of(word) for word in overrides if says([word], "data", "split")]
    for key in keys:
        if not is_within(key, "data.columns", "data.dir", "data.path"):
            raise ConfigError(
                f"images={config.images} names the images, and so does {key}: leave one of them out"
            )
    folder = config.data.dir if "data.dir" in keys else None
    source = find_images(str(config.images), config.data.columns, folder)
    if format == "submission":
        source.require_distinct_ids()
    return source


def _split(config: Config, overrides: Sequence[str], facts: dict[str, Any]) -> Split:
    """Return the split to predict, of images that fit the model."""
    images = recorded_or_named(overrides, config.data, Data(**facts["data"]))
    images = replace(images, resize=_resize(facts), extra=[])  # train is not predicted
    cache = Path(config.dir) / "cache"
    dataset = open_dataset(images, cache, trusted=tuple(config.trusted_modules))
    _require_fit(dataset, facts, config.split)
    return dataset.splits[config.split]


def _pictures(source: ImageSource | Split, size: Size, resize: str) -> Iterator[Picture]:
    """Yield images with their pixels, in the order of their rows."""
    if isinstance(source, ImageSource):
        return read_pictures(source, size, resize, ahead=2 * BATCH)
    pixels = chain.from_iterable(in_order(source, size, BATCH))
    entries = (Entry(id, id, b"") for id in map(str, source.ids))
    return map(Picture, entries, pixels)


def _rows(model: Any, pictures: Iterator[Picture], views: int) -> Iterator[tuple[Prediction, bool]]:
    """Yield what the model says of each image, and whether its label is not that of one view."""
    while batch := list(islice(pictures, BATCH)):
        readable = [picture.pixels for picture in batch if picture.pixels is not None]
        pixels = np.stack(readable) if readable else np.empty((0, *model.input_shape[1:]), np.uint8)
        rows = zip(*mean_probabilities(model, pixels, views), strict=True)
        for entry, decoded, error in batch:
            if decoded is None:
                yield Prediction(entry.name, entry.id, None, error), False
                continue
            chances, plain = next(rows)
            yield Prediction(entry.name, entry.id, chances), chances.argmax() != plain


def _counted(
    rows: Iterator[tuple[Prediction, bool]],
    predictions: Predictions,
    watch: Watch,
    total: int | None,
) -> Iterator[Prediction]:
    """Pass the rows on, and keep count of them."""
    begin: float | None = None
    for row, changed in rows:
        begin = begin or time.monotonic()
        predictions.images += 1
        predictions.changed += bool(changed)
        if row.error:
            predictions.broken += 1
            predictions.first_error = predictions.first_error or f"{row.name}: {row.error}"
        watch("images", predictions.images, total)
        yield row
    if begin is not None and predictions.images > BATCH:
        predictions.rate = (predictions.images - BATCH) / (time.monotonic() - begin)


def _resize(facts: dict[str, Any]) -> str:
    """Return how images were brought to the model's size in training."""
    return str(facts["data"].get("resize", "stretch"))


def _class_names(facts: dict[str, Any], model: Any) -> tuple[str, ...]:
    names = tuple(map(str, facts["classes"]))
    if len(names) != model.output_shape[-1]:
        raise DataError(
            f"the model tells {model.output_shape[-1]} classes apart, and its description names "
            f"{len(names)}: it was changed after it was logged. Name another model"
        )
    return names


def _require_fit(dataset: Dataset, facts: dict[str, Any], split: str) -> None:
    """Raise DataError if there is no such split, or its classes are not those of the model by
    name: a label is a number, and would name another class.
    """
    if split not in dataset.splits:
        raise DataError(
            f"{dataset.dir} has no split {split!r}. Splits: {', '.join(dataset.splits)}. Predict "
            "one of them, split=val, or any images: images=PATH"
        )
    known = replace(dataset, classes=tuple(facts["classes"]))
    if dataset.class_names == known.class_names:
        return
    if sorted(dataset.classes) == sorted(known.classes):
        how = "the same in another order"
    else:
        odd = [name for name in dataset.classes if name not in known.classes]
        how = f"the model does not know {odd[0]!r}" if odd else "some of the model's are missing"
    raise DataError(
        f"the classes of {dataset.dir} ({dataset.class_names}) are not those of the model "
        f"({known.class_names}): {how}. Leave data out to take the images it was trained with, "
        "name a folder of the same classes in the same order (data.classes=FILE), or predict "
        "without a data set: images=PATH"
    )
