"""What `search` prints after a sweep: its trials as a table, counts, and what an ensemble gains.

The table of the verb ``trials`` is in ``report/trial_table.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from flowersweep.study.objectives import rank_key
from flowersweep.util.text import duration, number, quantity, table

if TYPE_CHECKING:  # JAX and Keras, for seconds
    from flowersweep.ensemble.analysis import EnsembleAnalysis
    from flowersweep.evaluation.statistics import Difference
    from flowersweep.study.records import TrialRecord
    from flowersweep.workflows.sweep import SweepResult


def trials_table(
    outcome: SweepResult, objective: str, others: Sequence[str] = (), rows: int = 10
) -> str:
    """Return the trials as a table: the best first, then pruned and failed ones.

    With further objectives (``others``) the Pareto front comes first and is marked.
    """
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
    on_front = "complete, on the front"
    body = [
        _row(record, others, names, on_front if record.number in front else record.state)
        for record in ranked[:rows]
    ]
    remainder = f"\n... and {len(ranked) - rows} more" if len(ranked) > rows else ""
    return table([heading, *body]) + remainder


def _rank(record: TrialRecord, objective: str) -> tuple[float, ...]:
    order = ["complete", "pruned", "failed", "running"].index(record.state)
    return order, *rank_key([record.value or 0.0], [objective])


def _row(record: TrialRecord, others: Iterable[str], names: Iterable[str], state: str) -> list[str]:
    scores = [
        number(record.value),
        *(number(record.metrics.get(name)) for name in (*others, "tune/macro_f1")),
    ]
    params = [number(record.params.get(name)) for name in names]
    return [str(record.number), state, *scores, *params]


def summary(outcome: SweepResult) -> str:
    """Count the trials by final state, and the programs compiled for them."""
    states = Counter(record.state for record in outcome.trials)
    counts = ", ".join(
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
    total = quantity(len(outcome.trials), "trial")
    forecast = ""
    if outcome.forecast is not None:
        forecast = f", forecast {duration(60 * outcome.forecast)}"
    imported = [
        f"trials of other studies that the sampler learned from: {outcome.imported}"
    ] * bool(outcome.imported)
    taken = [f"time: {duration(60 * outcome.minutes)}{forecast}"]
    judging = [outcome.judging] if outcome.judging else []
    return "\n".join([f"{total}: {counts}", *judging, *imported, *failed[:5], *programs, *taken])


def _compiled(programs: Mapping[int, int]) -> str:
    """Say for which trials XLA compiled programs.

    Expected are the first trial of the command and, with workers, the first of each worker.
    """
    first, *others = programs.items()
    late = {number: count for number, count in others if count}
    if not late:
        remainder = f", 0 in the {len(others)} after it" * bool(others)
        return f"{first[1]} in the first trial{remainder}"
    counts = ", ".join(f"{count} in trial {number}" for number, count in [first, *late.items()][:5])
    rest = len(programs) - 1 - len(late)
    if len(late) > 4:
        return f"{counts} and more in {len(late) - 4} others"
    return counts + f", 0 in the {rest} others" * (rest > 0)


def findings_text(analysis: EnsembleAnalysis) -> str:
    """Return the gain of an ensemble over its best member on holdout.

    The text also has the weights with their intervals and a comparison with the published method.
    """
    scores = ["holdout/nll", "holdout/accuracy", "holdout/macro_f1"]
    gains = ["macro F1 gained (95 % interval)", "NLL gained"]
    ways = [["fitted on tune", "pools", "tune/nll", *scores, *gains]]
    for way in analysis.pooling_results:
        values = map(number, (way.tune_nll, way.nll, way.accuracy, way.macro_f1))
        single = max(way.weights) == 1
        differences = ["" if single else gained(way.gain[name]) for name in ("macro_f1", "nll")]
        ways.append([way.name, way.pooling, *values, *differences])
    chosen, solver = (
        next(way for way in analysis.pooling_results if way.name.startswith(name))
        for name in ("trial", "solver")
    )
    weights = [f"weight in {chosen.name}", "solver's (95 % interval)"]
    members = [["member", "tune/nll alone", "temperature", *weights]]
    for name, nll, temperature, weight, best, ends in zip(
        analysis.members,
        analysis.single_members,
        analysis.temperatures,
        chosen.weights,
        solver.weights,
        analysis.weights,
        strict=True,
    ):
        interval = f"{best:.3f} ({ends.low:.3f} to {ends.high:.3f})"
        members.append([name, number(nll), number(temperature), f"{weight:.3f}", interval])
    return "\n".join(["", table(ways), GAINED, "", table(members), *analysis.notes])


GAINED = (
    "gained: over the member that is best on tune, on the held-out half (paired bootstrap of its "
    "images); the NLL gains by falling.\n"
    "The first row is the study's choice; to choose another by these columns would use the "
    "held-out half up."
)


def gained(difference: Difference) -> str:
    """Format a difference with its interval; mark it if the interval includes zero."""
    interval = f"{difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"
    return interval if difference.resolved else f"{interval} unresolved"
