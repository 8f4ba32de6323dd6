"""Files of predictions, written row by row: CSV, JSON or the submission of a competition."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from flowersweep.errors import ConfigError, did_you_mean
from flowersweep.util.text import spreadsheet_cell

PREDICTION_FORMATS = {
    "csv": "predictions.csv",
    "json": "predictions.json",
    "submission": "submission.csv",
}


class Prediction(NamedTuple):
    """What a model says of one image: probabilities (K,), or why there are none."""

    name: str
    id: str
    probabilities: npt.NDArray[np.floating] | None
    error: str = ""


@dataclass(frozen=True)
class Layout:
    """Which columns a file of predictions has."""

    format: str
    classes: Sequence[str]
    top: int = 1  # best classes, one after the other
    probabilities: bool = False  # of every class


def require_layout(format: str, *, top: int, probabilities: bool) -> None:
    """Raise ConfigError for a format that is none of predictions, or that has no such columns."""
    if format not in PREDICTION_FORMATS:
        raise ConfigError(
            f"format={format}: {did_you_mean(format, PREDICTION_FORMATS, 'predict writes')}"
        )
    if format == "submission" and (top > 1 or probabilities):
        raise ConfigError(
            "format=submission has id and label alone: format=csv has probabilities, or leave "
            "top and probabilities out"
        )


def write_predictions(file: TextIO, rows: Iterable[Prediction], layout: Layout) -> None:
    """Write the rows as they come. Text that a spreadsheet would take for a formula is marked."""
    if layout.format == "json":
        _write_json(file, rows, layout)
        return
    writer = csv.writer(file, lineterminator="\n")
    table = _submission if layout.format == "submission" else _table
    writer.writerows(map(spreadsheet_cell, row) for row in table(rows, layout))


def _submission(rows: Iterable[Prediction], layout: Layout) -> Iterator[list[Any]]:
    yield ["id", "label"]
    for row in rows:
        yield [row.id, "" if row.probabilities is None else int(row.probabilities.argmax())]


def _table(rows: Iterable[Prediction], layout: Layout) -> Iterator[list[Any]]:
    numbers = [f"_{place}" for place in range(2, _top(layout) + 1)]
    columns = [
        f"{name}{number}" for number in ("", *numbers) for name in ("label", "class", "probability")
    ]
    every = [f"probability of {name}" for name in layout.classes] if layout.probabilities else []
    yield ["file", *columns, *every, "error"]
    for row in rows:
        if row.probabilities is None:
            yield [row.name, *[""] * (len(columns) + len(every)), row.error]
            continue
        cells = [cell for best in _best(row.probabilities, layout) for cell in best.values()]
        values = [_rounded(value) for value in row.probabilities] if every else []
        yield [row.name, *cells, *values, ""]


def _write_json(file: TextIO, rows: Iterable[Prediction], layout: Layout) -> None:
    between = "[\n"
    for row in rows:
        file.write(between + json.dumps(_document(row, layout), ensure_ascii=False))
        between = ",\n"
    file.write("\n]\n" if between == ",\n" else "[]\n")


def _document(row: Prediction, layout: Layout) -> Mapping[str, Any]:
    if row.probabilities is None:
        return {"file": row.name, "error": row.error}
    best = _best(row.probabilities, layout)
    document = {"file": row.name, **best[0]}
    if len(best) > 1:
        document["top"] = best
    if layout.probabilities:
        document["probabilities"] = {
            name: _rounded(value)
            for name, value in zip(layout.classes, row.probabilities, strict=True)
        }
    return document


def _best(probabilities: npt.NDArray[np.floating], layout: Layout) -> list[dict[str, Any]]:
    """Return label, class name and probability of the best classes, the best first."""
    order = np.argsort(-probabilities, kind="stable")[: _top(layout)].tolist()
    return [
        {
            "label": label,
            "class": layout.classes[label],
            "probability": _rounded(probabilities[label]),
        }
        for label in order
    ]


def _top(layout: Layout) -> int:
    return min(layout.top, len(layout.classes))


def _rounded(probability: Any) -> float:
    return float(f"{probability:.6g}")
