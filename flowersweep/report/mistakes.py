"""The images that a trial was surest of and wrong about: which they are its logits say, how they
look the data set, where it is at hand.

They are stored with the logits as small pictures, so that a page can be written again where the
images are not.
"""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowersweep.config.schema import Data
from flowersweep.errors import FlowersweepError
from flowersweep.evaluation.calibration import probabilities
from flowersweep.report.study_view import Predictions
from flowersweep.util.files import write_bytes

log = logging.getLogger(__name__)

# pictures, their longer side in pixels, and how many stand in a row
MOST, SIDE, COLUMNS = 24, 96, 6
# pixels of the sheet: width of a cell, height of what is written under a picture
CELL, CAPTION = 168, 46
FILES = "mistakes.json", "mistakes.jpg"


@dataclass(frozen=True)
class Wrong:
    """A prediction that is wrong: which image of which half it is, what is right, and what was
    predicted how surely.
    """

    half: str
    row: int
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction with its picture, a JPEG in base64."""

    id: str
    half: str
    true: str
    predicted: str
    probability: float
    jpeg: str


def worst(predictions: Predictions, most: int = MOST) -> list[Wrong]:
    """Return the wrong predictions of both halves, the surest first."""
    mistakes: list[Wrong] = []
    for half, logits, labels in (
        ("tune", predictions.tune, predictions.tune_labels),
        ("holdout", predictions.holdout, predictions.holdout_labels),
    ):
        chances, predicted = probabilities(logits), logits.argmax(axis=1)
        sure = chances[np.arange(len(labels)), predicted]
        rows = np.flatnonzero(predicted != labels)
        rows = rows[np.argsort(-sure[rows], kind="stable")][:most]
        mistakes += [
            Wrong(half, int(n), int(labels[n]), int(predicted[n]), float(sure[n])) for n in rows
        ]
    return sorted(mistakes, key=lambda each: -each.probability)[:most]


def stored(folder: Path) -> list[Mistake] | None:
    """Return the pictures stored with a trial's logits; None if there are none, or they cannot
    be read.
    """
    try:
        mistakes = [Mistake(**each) for each in json.loads((folder / FILES[0]).read_text())]
        for each in mistakes:
            _require_plain(each)
        return mistakes
    except (OSError, ValueError, TypeError):
        return None


def _require_plain(mistake: Mistake) -> None:
    """Raise ValueError for values of other types: the file may be somebody else's."""
    texts = (mistake.id, mistake.half, mistake.true, mistake.predicted, mistake.jpeg)
    if not all(isinstance(text, str) for text in texts) or type(mistake.probability) is not float:
        raise ValueError("not a mistake")
    base64.b64decode(mistake.jpeg, validate=True)


def gallery(
    predictions: Predictions,
    config: dict[str, Any],
    provenance: dict[str, Any],
    cache: Path,
    *,
    named: str | None = None,
) -> list[Mistake] | str:
    """Return a trial's worst mistakes with their pictures, or why there are none.

    An address of images is opened only if it is the one that the command has ``named``: the study
    may be somebody else's.
    """
    wrong = worst(predictions)
    if not wrong:
        return "No image was mistaken."
    return pictures(predictions, wrong, config, provenance, cache, named=named)


def pictures(
    predictions: Predictions,
    wrong: Sequence[Wrong],
    config: dict[str, Any],
    provenance: dict[str, Any],
    cache: Path,
    *,
    named: str | None = None,
) -> list[Mistake] | str:
    """Return wrong predictions with their pictures, or why there are none; see `gallery`."""
    known = provenance.get("data", {})
    if not known.get("dir") or not (
        known["dir"] == (named or "").rstrip("/") or Path(known["dir"]).is_dir()
    ):
        return f"The images, {known.get('dir')}, are not here, so the mistakes cannot be shown."
    try:
        return _pictured(
            wrong,
            predictions,
            {**config.get("data", {}), "dir": known["dir"], "fetch": None},
            cache,
        )
    except (FlowersweepError, OSError, ValueError, TypeError) as error:
        log.warning("no gallery of mistakes: %s", error)
        return f"The mistakes cannot be shown: {str(error).splitlines()[0]}"


def _pictured(
    wrong: Sequence[Wrong], predictions: Predictions, data: dict[str, Any], cache: Path
) -> list[Mistake] | str:
    # TensorFlow, for seconds: only where there is something to decode
    from flowersweep.data.dataset import open_dataset, train_on_all
    from flowersweep.data.images import compress
    from flowersweep.data.pipeline import read_images

    # no trial is scored on extra images, which may be gone
    dataset = open_dataset(
        Data(**{**data, "train_on": "train", "extra": [], "pseudo_labels": None}), cache
    )
    split, rows = dataset.splits["val"], {"tune": dataset.tune, "holdout": dataset.holdout}
    if len(predictions.tune_labels) > len(dataset.tune):  # cross-validated over train and tune
        train = len(dataset.splits["train"])
        split, rows = train_on_all(dataset).splits["train"], {k: train + v for k, v in rows.items()}
        rows["tune"] = np.concatenate([np.arange(train), rows["tune"]])
    assert split.labels is not None
    for half, labels in (
        ("tune", predictions.tune_labels),
        ("holdout", predictions.holdout_labels),
    ):
        if not np.array_equal(split.labels[rows[half]], labels):
            return (
                f"{dataset.dir} holds other images than the trial was scored on, so the mistakes "
                "cannot be shown."
            )
    indexes = [int(rows[each.half][each.row]) for each in wrong]
    scale = min(1.0, SIDE / max(dataset.image_size))
    height, width = (max(1, round(side * scale)) for side in dataset.image_size)
    images = read_images(split, indexes, (height, width))
    names = dataset.classes
    return [
        Mistake(
            str(split.ids[n]),
            w.half,
            names[w.label],
            names[w.predicted],
            round(w.probability, 4),
            base64.b64encode(compress(image)).decode(),
        )
        for n, w, image in zip(indexes, wrong, images, strict=True)
    ]


def keep(folder: Path, mistakes: Sequence[Mistake]) -> None:
    """Write the pictures next to a trial's logits, and as one sheet to look at."""
    write_bytes(folder / FILES[1], sheet(mistakes))
    write_bytes(folder / FILES[0], json.dumps([asdict(each) for each in mistakes]).encode())


def sheet(mistakes: Sequence[Mistake]) -> bytes:
    """Return all pictures on one JPEG, under each what it is and what it was taken for."""
    from PIL import Image, ImageDraw

    columns = min(COLUMNS, len(mistakes))
    rows = -(-len(mistakes) // columns)
    whole = Image.new("RGB", (columns * CELL, rows * (SIDE + CAPTION)), "white")
    draw = ImageDraw.Draw(whole)
    for number, each in enumerate(mistakes):
        left, top = number % columns * CELL, number // columns * (SIDE + CAPTION)
        picture = Image.open(io.BytesIO(base64.b64decode(each.jpeg)))
        whole.paste(picture, (left + (CELL - picture.width) // 2, top + 2))
        for line, text in enumerate(_lines(each)):
            draw.text(
                (left + 5, top + SIDE + 3 + 13 * line),
                text[:27],
                fill="black" if line != 1 else "#b3261e",
            )
    out = io.BytesIO()
    whole.save(out, "JPEG", quality=88)
    return out.getvalue()


def _lines(mistake: Mistake) -> Iterable[str]:
    sure = f"{mistake.probability:.0%}, {mistake.half}"
    return (
        text.encode("ascii", "replace").decode()
        for text in (mistake.true, f"> {mistake.predicted}", sure)
    )
