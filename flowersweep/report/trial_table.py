"""All trials of a study as plain rows: for pandas, and the verb ``trials`` as text, CSV or JSON.

The table that a sweep prints at its end is in ``cli/sweep_result.py``.
"""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

from flowersweep.report.study_view import StudyView
from flowersweep.study.records import TrialRecord
from flowersweep.tracking.masking import masked_text
from flowersweep.util.text import number, spreadsheet_cell, table

TABLE_FORMATS = ("text", "csv", "json")
FIRST, LAST = ("trial", "state", "value"), ("epochs", "seconds", "reason")

Row = dict[str, Any]


def trial_rows(study: StudyView) -> tuple[list[str], list[Row]]:
    """Return the columns, and a row for each trial by number: parameters, metrics, state.

    A parameter that a trial does not have is missing in its row. One whose name another column has
    is called ``params.NAME``.
    """
    records = study.records
    metrics = dict.fromkeys(name for record in records for name in record.metrics)
    taken = {*FIRST, *LAST, *metrics}
    params = {
        name: f"params.{name}" if name in taken else name
        for record in records
        for name in record.params
    }
    rows = [
        {
            "trial": record.number,
            "state": record.state,
            "value": record.value,
            **{params[name]: value for name, value in record.params.items()},
            **record.metrics,
            "epochs": max(record.curve, default=0),
            "seconds": record.span[1] - record.span[0],
            "reason": _reason(record),
        }
        for record in records
    ]
    return [*FIRST, *dict.fromkeys(params.values()), *metrics, *LAST], rows


def _reason(record: TrialRecord) -> str | None:
    return masked_text(record.ended.reason) if record.ended and record.ended.reason else None


def written_trials(study: StudyView, format: str) -> str:
    """Return all trials as ``text``, ``csv`` or ``json``; what a trial does not have is empty."""
    columns, rows = trial_rows(study)
    if format == "json":
        return json.dumps([_finite(row) for row in rows], indent=1)
    if format == "text":
        return table([columns, *([number(row.get(name)) for name in columns] for row in rows)])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([spreadsheet_cell(row.get(name)) for name in columns] for row in rows)
    return file.getvalue().rstrip("\n")


def _finite(row: Row) -> Row:
    """Return a row with null for what JSON has no number for."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
