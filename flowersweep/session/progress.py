"""Progress bars: one line that is rewritten on a terminal, a widget in a notebook, and in a log
file a line every so often.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, Self

from tqdm import tqdm

from flowersweep.search.state import Study
from flowersweep.study.records import TrialRecord
from flowersweep.study.sentences import describe_cut, describe_judging

LOG_INTERVAL = 30  # seconds between two lines of a log file


class LogBar(tqdm):  # type: ignore[type-arg]
    """A bar whose every state is a line of its own, as a log file or a CI job wants it."""

    def __init__(self, **options: Any) -> None:
        total = "/{total_fmt}" if options.get("total") else ""
        form = "{desc}: {n_fmt}" + total + "{unit} [{elapsed}<{remaining}{postfix}]"
        super().__init__(
            **{**options, "mininterval": LOG_INTERVAL, "leave": False, "bar_format": form}
        )

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the line; an empty one, which would clear it, is left out."""
        if msg != "":
            self.fp.write(f"{msg or self}\n")
            self.fp.flush()

    def close(self) -> None:
        """Write the last state."""
        if not self.disable:
            self.display()
        super().close()


def choose_bar() -> Any:
    """Return the class of bars for where this process writes."""
    if "ipykernel" in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets it is a line of text
            from tqdm.auto import tqdm as notebook_bar

        return notebook_bar
    return tqdm if sys.stderr.isatty() else LogBar


class Progress:
    """Show two bars on standard error: one for computing features, one for trials.

    The end of a ``with`` block closes them.
    """

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self._new_bar = choose_bar() if shown else tqdm
        self._images: Any = None
        self._trials: Any = None
        self._what = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def features(self, what: str, done: int, total: int | None) -> None:
        """Show how many images have features, or predictions, so far."""
        if not self.shown:
            return
        if self._images is None or what != self._what:
            self.close()
            self._what = what
            self._images = self._bar(total, desc=what, unit=" images")
        self._images.update(done - self._images.n)

    def trial(self, study: Study, record: TrialRecord | None) -> None:
        """Show the number of ended trials, the running trial and the best one."""
        if not self.shown:
            return
        ended = study.ended
        if self._trials is None:
            self.close()
            started = study.record.started
            for line in (describe_cut(started), describe_judging(started)):
                if line and not ended:
                    tqdm.write(line, file=sys.stderr)
            total = study.config.sweep.n_trials
            self._trials = self._bar(
                total, initial=min(ended, total), desc=str(study.config.study), unit=" trials"
            )
        self._trials.set_postfix_str(_leader(study) + _running(record), refresh=False)
        self._trials.update(ended - self._trials.n)

    def close(self) -> None:
        """Close all open bars; what is told afterwards opens new ones."""
        for bar in (self._images, self._trials):
            if bar is not None:
                bar.close()
        self._images = self._trials = None

    def _bar(self, total: int | None, **options: Any) -> Any:
        # miniters: a trial that trains is news, although no trial has ended
        return self._new_bar(total=total, miniters=0, file=sys.stderr, **options)


def _leader(study: Study) -> str:
    best, metric = study.best, study.config.sweep.objective
    if best is None or best.value is None:
        return "no trial done yet"
    return f"best {metric} {best.value:.4f} (trial {best.number})"


def _running(record: TrialRecord | None) -> str:
    epochs, steps = record.progress if record and not record.ended else (0, 0)
    if record is None or not (epochs or steps):
        return ""
    return f", trial {record.number}: {epochs} epochs" + f" {steps} steps" * (steps > 0)
