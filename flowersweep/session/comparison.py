"""Several studies side by side, as tables in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowersweep.report.comparison import compare, sections
from flowersweep.report.page import Table
from flowersweep.report.study_view import load_study

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Comparison:
    """The best trials of studies on the held-out images, and their differences.

    Attributes:
        studies: A row for each study: its scores with their intervals, its trials, its objective.
        differences: A row for each pair: the paired difference in macro F1 with its interval,
            McNemar's test, and a verdict. Other held-out images leave it empty.
        settings: A row for each setting in which the best trials differ.
    """

    studies: pd.DataFrame
    differences: pd.DataFrame
    settings: pd.DataFrame

    def __repr__(self) -> str:
        return f"{self.studies.to_string()}\n\n{self.differences.to_string()}"

    def _repr_html_(self) -> str:
        return f"{self.studies.to_html(na_rep='')}{self.differences.to_html(na_rep='')}"


def compare_studies(folders: Sequence[Path]) -> Comparison:
    """Compare the studies in these folders. Raises StudyError if one of them holds none."""
    parts = {part.name: part for part in sections(compare([*map(load_study, folders)]))}
    return Comparison(*(_frame(parts[name].parts) for name in ("best", "differences", "settings")))


def _frame(parts: Sequence[object]) -> pd.DataFrame:
    """Return the first table among the parts of a section; an empty one without any."""
    import pandas as pd

    for table in parts:
        if isinstance(table, Table):
            frame = pd.DataFrame(table.rows, columns=[column.title for column in table.columns])
            return frame.set_index(table.columns[0].title)
    return pd.DataFrame()
