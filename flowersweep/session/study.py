"""A study, to look at in Python and in a notebook."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowersweep.config.keys import is_within, key_of
from flowersweep.report.charts.search import history
from flowersweep.report.charts.sketch import sketch
from flowersweep.report.figures import charts, figure
from flowersweep.report.status import STATES, screen, status
from flowersweep.report.study_view import load_study
from flowersweep.study.claim import describe_best
from flowersweep.study.records import TrialRecord, ranked_records
from flowersweep.tracking.masking import masked_text
from flowersweep.util.text import number

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

SHOWN = 10  # trials in a notebook's cell
STORE = ("dir", "tracking", "sync", "trusted_modules")  # what finds the same study again


class Study:
    """A study as its journal says, read once; `refresh` reads it again.

    Nothing is locked or changed: the study may be running elsewhere.

    Attributes:
        folder: Where it lies.
        words: The words that find it again, for the next call.
    """

    def __init__(self, folder: Path, words: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.words = tuple(word for word in words if is_within(key_of(word), *STORE))
        self._view = load_study(folder)

    @property
    def name(self) -> str:
        """The name, by which every function and command finds it."""
        return self._view.name

    @property
    def objective(self) -> str:
        """The metric that is optimised."""
        return self._view.objective

    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial: its ``number``, ``params``, ``value`` and ``metrics``."""
        return self._view.best

    @cached_property
    def claim(self) -> str:
        """What the held-out images support about the best trial, in a sentence."""
        view = self._view
        return describe_best(self.folder, view.best, len(view.records), view.objective)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """All trials by number: state, objective, parameters, metrics, epochs, seconds, reason.

        A parameter that a trial does not have is empty. One whose name another column has is called
        ``params.NAME``.
        """
        import pandas as pd

        records = self._view.records
        fixed = {"state", "value", "epochs", "seconds", "reason"}
        metrics = [*dict.fromkeys(name for record in records for name in record.metrics)]
        taken = {*fixed, *metrics}
        params = {
            name: f"params.{name}" if name in taken else name
            for record in records
            for name in record.params
        }
        rows = [
            {
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
        last = ["epochs", "seconds", "reason"]
        columns = ["state", "value", *dict.fromkeys(params.values()), *metrics, *last]
        index = pd.Index([record.number for record in records], name="trial")
        return pd.DataFrame(rows, index=index, columns=columns)

    @property
    def figures(self) -> list[str]:
        """The names that `figure` knows for this study."""
        return [*charts(self._view)]

    def figure(self, name: str = "history") -> Figure:
        """Return a chart of the study's page as a Plotly figure.

        Args:
            name: ``history``, ``importance``, ``parallel``, ``contour``, ``curves`` ...; `figures`
                has those that there are.

        Raises:
            StudyError: The study has no such chart.
        """
        return figure(self._view, name)

    def refresh(self) -> Study:
        """Return the study as it is now."""
        return Study(self.folder, self.words)

    def __repr__(self) -> str:
        return screen(status(self.folder))

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the best trials, and the history of all."""
        view = self._view
        ranked = [record.number for record in ranked_records(view.records, *view.record.objectives)]
        rest = sorted(set(self.trials.index) - {*ranked}, key=self._rank)
        shown = self.trials.loc[[*ranked, *rest][:SHOWN]].drop(columns="reason")
        names = ["state", "value", "tune/macro_f1", "holdout/macro_f1", "epochs", "seconds"]
        params = [name for name in shown.columns if name not in view.record.trials[0].metrics]
        shown = shown[[name for name in dict.fromkeys([*names[:4], *params]) if name in shown]]
        table = shown.rename(columns={"value": self.objective}).to_html(
            na_rep="", float_format=number
        )
        more = len(self.trials) - len(shown)
        left = f"<p>... and {more} more</p>" if more > 0 else ""
        title = f"<p><b>{self.name}</b>: {masked_text(self.claim)}</p>"
        return f"<div>{title}{table}{left}{sketch(history(view, None))}</div>"

    def _rank(self, number: int) -> tuple[int, int]:
        return STATES.index(self.trials.loc[number, "state"]), number


def _reason(record: TrialRecord) -> str | None:
    reason: Any = record.ended.reason if record.ended else None
    return masked_text(str(reason)) if reason else None
