"""What a person sees while a sweep runs and when it has ended: progress bars and tables, as text."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from flowersweep.search.history import Record
from flowersweep.search.run import Outcome
from flowersweep.search.study import Study


class Progress:
    """Bars on standard error: one for features while they are computed, one for the epochs of all trials."""

    def __init__(self, shown: bool) -> None:
        self.off = not shown
        self.features_bar: Any = None
        self.bar: Any = None
        self.what = ""

    def features(self, what: str, done: int, total: int) -> None:
        """Show how many images have their features."""
        if what != self.what:
            self.close()
            self.features_bar, self.what = tqdm(total=total, desc=what, unit=" images", disable=self.off, file=sys.stderr), what
        self.features_bar.update(done - self.features_bar.n)

    def trial(self, study: Study, record: Record | None) -> None:
        """Show how many trials have ended, the one that runs, and the best."""
        ended = study.ended
        if self.bar is None:
            self.close()
            total = study.config.sweep.n_trials
            self.bar = tqdm(
                total=total, initial=min(ended, total), desc=str(study.config.study), unit=" trials", disable=self.off, file=sys.stderr
            )
        self.bar.update(ended - self.bar.n)
        best, metric = study.best, study.config.sweep.objective
        found = f"best {metric} {best.value:.4f} (trial {best.number})" if best and best.value is not None else "no trial done yet"
        running = f", trial {record.number} at epoch {max(record.reports)}" if record and record.reports and not record.tell else ""
        self.bar.set_postfix_str(found + running)

    def close(self) -> None:
        """End the bars that are open."""
        for bar in (self.features_bar, self.bar):
            if bar is not None:
                bar.close()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of cells in columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def trials_table(outcome: Outcome, objective: str, rows: int = 10) -> str:
    """Return the best trials first, then those that were pruned or failed."""
    ranked = sorted(outcome.trials, key=lambda record: _rank(record, objective))
    names = list(dict.fromkeys(name for record in ranked for name in record.params))
    heading = ["trial", "state", objective, "tune/macro_f1", "report/macro_f1", *names]
    body = [_row(record, names) for record in ranked[:rows]]
    left = f"\n... and {len(ranked) - rows} more" if len(ranked) > rows else ""
    return table([heading, *body]) + left


def _rank(record: Record, objective: str) -> tuple[int, float]:
    order = ["complete", "pruned", "failed", "running"].index(record.state)
    value = record.value if record.value is not None else 0.0
    return order, value if objective.endswith("nll") else -value


def _row(record: Record, names: Iterable[str]) -> list[str]:
    scores = [number(record.value), *(number(record.metrics.get(name)) for name in ("tune/macro_f1", "report/macro_f1"))]
    return [str(record.number), record.state, *scores, *(number(record.params.get(name)) for name in names)]


def number(value: Any) -> str:
    """Write a value in four significant digits; nothing for None."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def summary(outcome: Outcome) -> str:
    """Count the trials by how they ended, and the programs that were compiled for them."""
    states = Counter(record.state for record in outcome.trials)
    counted = ", ".join(f"{states[state]} {state}" for state in ("complete", "pruned", "failed", "running") if states[state])
    failed = [
        f"trial {record.number} failed: {record.tell['reason']}" for record in outcome.trials if record.tell and record.state == "failed"
    ]
    compiled = list(outcome.compiled.values())
    programs = (
        [f"programs compiled: {compiled[0]} in the first trial, {sum(compiled[1:])} in the {len(compiled) - 1} after it"]
        if compiled
        else []
    )
    forecast = f", forecast {outcome.forecast:.1f}" if outcome.forecast is not None else ""
    lasted = [f"minutes: {outcome.minutes:.1f}{forecast}"]
    return "\n".join([f"{len(outcome.trials)} trials: {counted}", *failed[:5], *programs, *lasted])
