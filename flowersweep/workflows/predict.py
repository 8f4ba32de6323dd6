"""From a registered model and images to a submission: a line for each image, with id and label."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowersweep.config.compose import recorded_or_named
from flowersweep.config.schema import Config, Data
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.data.pipeline import in_order, padded
from flowersweep.errors import ConfigError, DataError
from flowersweep.evaluation.calibration import probabilities
from flowersweep.models.cpu.lowering import lower_for_cpu
from flowersweep.runtime import start
from flowersweep.tracking import registry
from flowersweep.training.augment.views import tta_views
from flowersweep.util.output import open_output, require_output
from flowersweep.util.text import spreadsheet_cell

BATCH = 64


@dataclass(frozen=True)
class Submission:
    """What was written: the file, the number of images, and how many of them the first view alone
    gives another label.
    """

    path: Path
    images: int
    changed: int


def predict(config: Config, overrides: Sequence[str]) -> Submission:
    """Write ``id,label`` for every image of ``config.split``.

    The label is the class with the largest probability, in the mean over ``config.views`` views of
    the image: the image as it is, then its mirror image, then the same two of its central 90 % and
    80 % (`flowersweep.training.augment.views`). Each takes the network's time once more. The images
    are those that the model was trained with, unless the command line names others. Raises
    TrackingError if there is no such model, and DataError if the images do not fit it.
    """
    path = require_output(Path(config.output or "submission.csv"), Path(config.dir))
    if config.version is not None and (config.alias or config.run):
        raise ConfigError(
            f"version={config.version} names a model, and so does "
            f"{'alias' if config.alias else 'run'}: leave one of them out"
        )
    dir = Path(config.dir)
    # once: somebody may move the alias meanwhile
    run = config.run or registry.find_run(
        config.tracking, dir, alias=config.alias, version=config.version
    )
    model = load_predictor(config, run)
    facts = registry.model_metadata(config.tracking, dir, run=run)
    images = recorded_or_named(overrides, config.data, Data(**facts["data"]))
    height, width = model.input_shape[1:3]
    images = _as_trained(images, facts)
    dataset = open_dataset(images, dir / "cache", trusted=tuple(config.trusted_modules))
    _require_fit(dataset, facts, config.split)
    split = dataset.splits[config.split]
    with open_output(path) as binary:
        file = io.TextIOWrapper(binary, "utf-8", newline="", write_through=True)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "label"])
        changed = 0
        for id, (label, plain) in zip(
            split.ids,
            labels(model, in_order(split, (height, width), BATCH), config.tta_views),
            strict=True,
        ):
            writer.writerow([spreadsheet_cell(id), label])
            changed += label != plain
        file.detach()  # or it would close the file
    return Submission(path, len(split), changed)


def load_predictor(config: Config, run: str) -> Any:
    """Return the model of a run, as fast as this machine can run it.

    Raises TrackingError if there is none.
    """
    runtime = start(Path(config.dir) / "cache" / "compiled")
    model = registry.load(config.tracking, Path(config.dir), run=run)
    return lower_for_cpu(model) if runtime.platform == "cpu" else model


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
    images = _as_trained(config.data, facts)
    dataset = open_dataset(images, dir / "cache", trusted=tuple(config.trusted_modules))
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


def _as_trained(images: Data, facts: dict[str, Any]) -> Data:
    """Return images that are resized as those that the model was trained with."""
    return replace(images, resize=facts["data"].get("resize", "stretch"))


def holdout_name(dataset: Dataset, config: Config) -> str:
    """Return a name of the held-out images: another split seed holds out others."""
    return f"{dataset.digest[:16]}.{config.data.split_seed}"


def labels(model: Any, batches: Iterator[np.ndarray], count: int) -> Iterator[tuple[int, int]]:
    """Yield the label of each image over so many views, and that of the first view alone."""
    for images in batches:
        # one shape, one program
        full = np.concatenate(
            [images, np.zeros((BATCH - len(images), *images.shape[1:]), images.dtype)]
        )
        logits = np.stack(
            [model.predict_on_batch(view)[: len(images)] for view in tta_views(full, count)]
        )
        plain = logits[0].argmax(axis=1)
        labels = (
            plain
            if count == 1
            else np.mean([probabilities(view) for view in logits], axis=0).argmax(axis=1)
        )
        yield from zip(labels.tolist(), plain.tolist(), strict=True)


def _require_fit(dataset: Dataset, facts: dict[str, Any], split: str) -> None:
    if split not in dataset.splits:
        raise DataError(
            f"{dataset.dir} has no split {split!r}. Splits: {', '.join(dataset.splits)}"
        )
    if len(dataset.classes) != len(facts["classes"]):
        raise DataError(
            f"the model knows {len(facts['classes'])} classes, {dataset.dir} has "
            f"{len(dataset.classes)}: "
            "leave data out to take the images it was trained with, or name a folder of the same "
            "classes"
        )
    other = [
        pair for pair in zip(facts["classes"], dataset.classes, strict=True) if pair[0] != pair[1]
    ]
    if other:
        raise DataError(
            f"the classes of {dataset.dir} are not those of the model: {other[0][1]!r} stands "
            f"where the model has {other[0][0]!r}. "
            "Name a folder of the same classes in the same order, or their names: data.classes=FILE"
        )
