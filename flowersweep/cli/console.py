"""What a person sees while a sweep runs and when it has ended: progress bars and tables, as text."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from flowersweep.ensemble.analysis import EnsembleAnalysis, Published
from flowersweep.evaluation.statistics import Difference
from flowersweep.search.state import Study
from flowersweep.study.records import TrialRecord
from flowersweep.workflows.sweep import SweepResult


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
            self.features_bar, self.what = (
                tqdm(total=total, desc=what, unit=" images", disable=self.off, file=sys.stderr),
                what,
            )
        self.features_bar.update(done - self.features_bar.n)

    def trial(self, study: Study, record: TrialRecord | None) -> None:
        """Show how many trials have ended, the one that runs, and the best."""
        ended = study.ended
        if self.bar is None:
            self.close()
            total = study.config.sweep.n_trials
            self.bar = tqdm(
                total=total,
                initial=min(ended, total),
                desc=str(study.config.study),
                unit=" trials",
                disable=self.off,
                file=sys.stderr,
            )
        self.bar.update(ended - self.bar.n)
        best, metric = study.best, study.config.sweep.objective
        found = (
            f"best {metric} {best.value:.4f} (trial {best.number})"
            if best and best.value is not None
            else "no trial done yet"
        )
        epochs, steps = record.progress if record and not record.ended else (0, 0)
        running = (
            f", trial {record.number}: {epochs} epochs" + f" {steps} steps" * (steps > 0)
            if record and (epochs or steps)
            else ""
        )
        self.bar.set_postfix_str(found + running)

    def close(self) -> None:
        """End the bars that are open."""
        for bar in (self.features_bar, self.bar):
            if bar is not None:
                bar.close()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of cells in columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def trials_table(
    outcome: SweepResult, objective: str, others: Sequence[str] = (), rows: int = 10
) -> str:
    """Return the best trials first, then those that were pruned or failed; with other objectives, the Pareto front first, and marked."""
    front = (
        {trial.number - outcome.imported for trial in outcome.study.best_trials}
        if others
        else set()
    )
    ranked = sorted(
        outcome.trials, key=lambda record: (record.number not in front, *_rank(record, objective))
    )
    names = list(dict.fromkeys(name for record in ranked for name in record.params))
    heading = ["trial", "state", objective, *others, "tune/macro_f1", *names]
    body = [
        _row(
            record,
            others,
            names,
            "complete, on the front" if record.number in front else record.state,
        )
        for record in ranked[:rows]
    ]
    left = f"\n... and {len(ranked) - rows} more" if len(ranked) > rows else ""
    return table([heading, *body]) + left


def _rank(record: TrialRecord, objective: str) -> tuple[int, float]:
    order = ["complete", "pruned", "failed", "running"].index(record.state)
    value = record.value if record.value is not None else 0.0
    return order, value if objective.endswith("nll") else -value


def _row(record: TrialRecord, others: Iterable[str], names: Iterable[str], state: str) -> list[str]:
    scores = [
        number(record.value),
        *(number(record.metrics.get(name)) for name in (*others, "tune/macro_f1")),
    ]
    return [
        str(record.number),
        state,
        *scores,
        *(number(record.params.get(name)) for name in names),
    ]


def number(value: Any) -> str:
    """Write a value in four significant digits; nothing for None."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def summary(outcome: SweepResult) -> str:
    """Count the trials by how they ended, and the programs that were compiled for them."""
    states = Counter(record.state for record in outcome.trials)
    counted = ", ".join(
        f"{states[state]} {state}"
        for state in ("complete", "pruned", "failed", "running")
        if states[state]
    )
    failed = [
        f"trial {record.number} failed: {record.ended.reason}"
        for record in outcome.trials
        if record.ended and record.state == "failed"
    ]
    programs = [f"programs compiled: {_compiled(outcome.compiled)}"] if outcome.compiled else []
    total = f"{len(outcome.trials)} trial{'s' * (len(outcome.trials) != 1)}"
    forecast = f", forecast {outcome.forecast:.1f}" if outcome.forecast is not None else ""
    imported = [
        f"trials of other studies that the sampler learned from: {outcome.imported}"
    ] * bool(outcome.imported)
    lasted = [f"minutes: {outcome.minutes:.1f}{forecast}"]
    return "\n".join([f"{total}: {counted}", *imported, *failed[:5], *programs, *lasted])


def _compiled(programs: Mapping[int, int]) -> str:
    """Say which trials of this command programs were compiled for: the first, and with workers the first of each."""
    first, *others = programs.items()
    late = {number: count for number, count in others if count}
    if not late:
        return f"{first[1]} in the first trial" + f", 0 in the {len(others)} after it" * bool(
            others
        )
    told = ", ".join(f"{count} in trial {number}" for number, count in [first, *late.items()][:5])
    rest = len(programs) - 1 - len(late)
    return told + (
        f" and more in {len(late) - 4} others"
        if len(late) > 4
        else f", 0 in the {rest} others" * (rest > 0)
    )


def findings_text(found: EnsembleAnalysis) -> str:
    """Return what an ensemble gains over its best member on holdout, the weights with their intervals, and the published way beside it."""
    scores = ["holdout/nll", "holdout/accuracy", "holdout/macro_f1"]
    ways = [
        [
            "fitted on tune",
            "pools",
            "tune/nll",
            *scores,
            "macro F1 gained (95 % interval)",
            "NLL gained",
        ]
    ]
    for way in found.pooling_results:
        told = [number(value) for value in (way.tune_nll, way.nll, way.accuracy, way.macro_f1)]
        alone = max(way.weights) == 1
        ways.append(
            [
                way.name,
                way.pooling,
                *told,
                *("" if alone else gained(way.gain[name]) for name in ("macro_f1", "nll")),
            ]
        )
    chosen, solver = (
        next(way for way in found.pooling_results if way.name.startswith(name))
        for name in ("trial", "solver")
    )
    members = [
        [
            "member",
            "tune/nll alone",
            "temperature",
            f"weight in {chosen.name}",
            "solver's (95 % interval)",
        ]
    ]
    for name, alone, own, weight, best, ends in zip(
        found.members,
        found.single_members,
        found.temperatures,
        chosen.weights,
        solver.weights,
        found.weights,
        strict=True,
    ):
        interval = f"{best:.3f} ({ends.low:.3f} to {ends.high:.3f})"
        members.append([name, number(alone), number(own), f"{weight:.3f}", interval])
    return "\n".join(
        ["", table(ways), GAINED, "", table(members), "", *_published(found.published)]
    )


GAINED = """gained: over the member that is best on tune, on the held-out half (paired bootstrap of its images); the NLL gains by falling.
The first row is the study's choice; to choose another by these columns would use the held-out half up."""


def _published(found: Published) -> list[str]:
    grid = found.grid
    return [
        f"the published way, 100 weights of {found.members[0]} beside {found.members[1]} by "
        f"accuracy: weight {grid.meant:.4f}, read as "
        f"{grid.read:.2f} (argmax / 100 of a grid with step 1/99);",
        f"{grid.equal} of the 100 give as many hits. It gains {found.told:+.4f} accuracy on the "
        "images it was chosen by, "
        f"{gained(found.gain)} on held-out ones",
    ]


def gained(difference: Difference) -> str:
    """Write a difference with its interval, and whether the images settle it."""
    told = f"{difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"
    return told if difference.resolved else f"{told} unresolved"
