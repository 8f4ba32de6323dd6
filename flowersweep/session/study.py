"""A study, to look at in Python and in a notebook."""

from __future__ import annotations

from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from flowersweep.config.keys import is_within, key_of
from flowersweep.report.charts.search import history
from flowersweep.report.charts.sketch import sketch
from flowersweep.report.plotly_figures import charts, figure
from flowersweep.report.status import STATES, screen, status
from flowersweep.report.study_view import load_study
from flowersweep.report.trial_table import trial_rows
from flowersweep.study.records import TrialRecord, ranked_records
from flowersweep.study.sentences import describe_best
from flowersweep.tracking.masking import masked_text
from flowersweep.util.text import number

if TYPE_CHECKING:
    import pandas as pd

    from flowersweep.report.plotly_figures import Figure

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

        columns, rows = trial_rows(self._view)
        return pd.DataFrame(rows, columns=columns).set_index("trial")

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
        view, names = self._view, ["state", "value", "tune/macro_f1", "holdout/macro_f1"]
        complete = ranked_records(view.records, *view.record.objectives)
        best = [record.number for record in complete]
        others = sorted({*self.trials.index} - {*best}, key=self._rank)
        params = [name for record in view.records for name in record.params]
        shown = self.trials.loc[[*best, *others][:SHOWN]]
        shown = shown[[name for name in dict.fromkeys([*names, *params]) if name in shown]]
        shown.columns = [self.objective if name == "value" else name for name in shown]
        shown = shown.rename_axis(index=None, columns="trial")
        left = len(self.trials) - len(shown)
        parts = [
            f"<p><b>{self.name}</b>: {escape(masked_text(self.claim))}</p>",
            shown.to_html(na_rep="", float_format=number, border=0),
            f"<p>... and {left} more</p>" * (left > 0),
            sketch(history(view, None)),
        ]
        return f"<div>{''.join(parts)}</div>"

    def _rank(self, number: int) -> tuple[int, int]:
        return STATES.index(self.trials.loc[number, "state"]), number
