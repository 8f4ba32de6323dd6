"""Doubts about a study: trials it cannot tell apart, ranges that end too early, failures."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from optuna.distributions import FloatDistribution, IntDistribution

from flowersweep.config.keys import range_of
from flowersweep.evaluation.statistics import Difference
from flowersweep.report.study_view import StudyView
from flowersweep.space.space import Parameter
from flowersweep.study.records import TrialRecord
from flowersweep.study.sentences import describe_judging
from flowersweep.tracking.masking import masked_text

NEAR = 0.05  # of a range, on its own scale


@dataclass(frozen=True)
class AuditItem:
    """One thing to know before the best trial is believed."""

    kind: Literal["warning", "note"]
    title: str
    text: str
    words: str = ""  # that can be added to the next command


@dataclass(frozen=True)
class BoundaryOptimum:
    """The best value of a parameter lies at an end of its range; ``values`` is a wider range in the
    grammar of sweeps.
    """

    parameter: Parameter
    value: float
    end: Literal["lower", "upper"]
    values: str
    near: int  # of the best few trials that had this parameter, how many lie there too
    of: int


def audit(
    study: StudyView, differences: Mapping[int, Difference], optimism: float | None
) -> list[AuditItem]:
    """Return what is doubtful about a study.

    Args:
        differences: Best trial minus another, by the other's number.
    """
    items = [
        _resolution(study, differences),
        *(_boundary(optimum) for optimum in boundary_optima(study)),
        _trials(study, optimism),
        _failures(study),
    ]
    return [item for item in items if item is not None]


def _resolution(study: StudyView, differences: Mapping[int, Difference]) -> AuditItem | None:
    ranked = study.complete
    if len(ranked) < 2 or ranked[1].number not in differences:
        return None
    best, second = ranked[0].number, ranked[1].number
    difference = differences[second]
    side = "above" if difference.value >= 0 else "below"
    gap = f"On the held-out half it is {abs(difference.value):.4f} macro F1 {side} trial {second}, "
    gap += f"with a paired standard error of {difference.standard_error:.4f}"
    if difference.resolved and difference.value > 0:
        return AuditItem(
            "note", f"Trial {best} is better than its runner-up, trial {second}", f"{gap}."
        )
    if difference.resolved:
        title = f"Trial {best} is best on tune, but worse than trial {second} on the held-out half"
        return AuditItem("warning", title, f"{gap}.")
    tied = sum(not other.resolved for other in differences.values())
    same = difference.value == difference.standard_error == 0
    seen = (
        "On the held-out half both score the same"
        if same
        else f"{gap}, and less than two of them decide nothing"
    )
    text = (
        f"{seen}. Of the {len(differences)} next best trials, {tied} cannot be distinguished from "
        "trial "
        f"{best}."
    )
    return AuditItem(
        "warning",
        f"Unresolved: is trial {best} better than trial {second}?",
        f"{text} Take the simpler one, or train both with other seeds.",
    )


def boundary_optima(study: StudyView) -> list[BoundaryOptimum]:
    """Return the parameters whose best value lies at an end of the range that could be wider."""
    best = study.best
    if best is None:
        return []
    searched = (p for p in study.parameters if p.name in best.params)
    return [optimum for p in searched if (optimum := _boundary_optimum(p, best, study.complete))]


def _boundary_optimum(
    parameter: Parameter, best: TrialRecord, ranked: list[TrialRecord]
) -> BoundaryOptimum | None:
    end = _end(parameter, best.params[parameter.name])
    values = wider(parameter, end) if end else None
    if end is None or values is None:
        return None
    few = [r.params[parameter.name] for r in ranked if parameter.name in r.params][
        : max(5, len(ranked) // 10)
    ]
    return BoundaryOptimum(
        parameter,
        float(best.params[parameter.name]),
        end,
        values,
        sum(_end(parameter, value) == end for value in few),
        len(few),
    )


def _end(parameter: Parameter, value: float) -> Literal["lower", "upper"] | None:
    position = unit_position(parameter, value)
    if position is None or parameter.distribution.single():
        return None
    return "lower" if position <= NEAR else "upper" if position >= 1 - NEAR else None


def unit_position(parameter: Parameter, value: float) -> float | None:
    """Return where in its range, on its own scale, a value lies: 0 to 1; None for choices."""
    ranged = parameter.distribution
    if not isinstance(ranged, FloatDistribution | IntDistribution):
        return None
    low, high, at = (math.log(x) if ranged.log else x for x in (ranged.low, ranged.high, value))
    return (at - low) / (high - low) if high > low else 0.5


def wider(parameter: Parameter, end: Literal["lower", "upper"]) -> str | None:
    """Return a range half as wide again beyond one end, in the grammar of sweeps.

    Returns:
        None where values cannot go further.
    """
    ranged = parameter.distribution
    assert isinstance(ranged, FloatDistribution | IntDistribution)
    low, high = float(ranged.low), float(ranged.high)
    smallest, largest = range_of(parameter.path) or (0.0 if low >= 0 else -math.inf, math.inf)
    if end == "lower":
        new = max(low / math.sqrt(high / low) if ranged.log else low - (high - low) / 2, smallest)
        low, moved = (_rounded(new, ranged), new < low)
    else:
        new = min(high * math.sqrt(high / low) if ranged.log else high + (high - low) / 2, largest)
        high, moved = (_rounded(new, ranged), new > high)
    if not moved or (ranged.log and low <= 0):
        return None
    if ranged.step and not (isinstance(ranged, IntDistribution) and ranged.step == 1):
        return f"range({low:g}, {high + ranged.step:g}, {ranged.step:g})"  # without the stop
    whole = f"interval({low:g}, {high:g})"
    logged = f"tag(log, {whole})" if ranged.log else whole
    return f"int({logged})" if isinstance(ranged, IntDistribution) else logged


def _rounded(value: float, ranged: FloatDistribution | IntDistribution) -> float:
    return float(round(value)) if isinstance(ranged, IntDistribution) else float(f"{value:.2g}")


def _boundary(optimum: BoundaryOptimum) -> AuditItem:
    name, ranged = optimum.parameter.name, optimum.parameter.distribution
    assert isinstance(ranged, FloatDistribution | IntDistribution)
    text = (
        f"{name} = {optimum.value:.4g} of {ranged.low:g} to {ranged.high:g}; {optimum.near} of "
        f"the {optimum.of} best trials lie there. "
        "Nothing beyond it was tried. Widen the range in a new study:"
    )
    word = shlex.quote(f'sweep.space.{name}.values="{optimum.values}"')
    return AuditItem("warning", f"{name} is best at the {optimum.end} end of its range", text, word)


def _trials(study: StudyView, optimism: float | None) -> AuditItem:
    states = Counter(record.state for record in study.records)
    counted = ", ".join(
        f"{states[s]} {s}" for s in ("complete", "pruned", "failed", "running") if states[s]
    )
    seen = "train and tune" if describe_judging(study.started) else "the tune half alone"
    text = (
        f"{counted or 'none'}. The search saw {seen}. The headline score is on the held-out half."
    )
    if optimism is not None:
        text += (
            f" If all {states['complete']} complete trials were equally good, the best would "
            f"still look about {optimism:.2g} better "
            f"in {study.objective} than it is, by luck."
        )
    return AuditItem("note", f"Picked from {len(study.records)} trials", text)


def _failures(study: StudyView) -> AuditItem | None:
    reasons = Counter(
        masked_text(str(r.ended.reason)) for r in study.records if r.ended and r.state == "failed"
    )
    if not reasons:
        return None
    text = "; ".join(
        f"{reason} ({count}x)" if count > 1 else reason for reason, count in reasons.most_common(8)
    )
    return AuditItem(
        "warning", f"{sum(reasons.values())} of {len(study.records)} trials failed", text
    )
