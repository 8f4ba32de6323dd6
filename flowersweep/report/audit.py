"""What a study must admit of itself: what it cannot tell apart, where its ranges ended too early, what failed."""

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
from flowersweep.report.reading import Reading
from flowersweep.space.space import Parameter
from flowersweep.study.records import TrialRecord
from flowersweep.tracking.masking import masked_text

NEAR = 0.05  # of a range, on its own scale


@dataclass(frozen=True)
class Finding:
    """One thing to know before the best trial is believed; ``words`` can be added to the next command."""

    kind: Literal["warning", "note"]
    title: str
    text: str
    words: str = ""


@dataclass(frozen=True)
class Edge:
    """The best value of a parameter lies at an end of its range; ``values`` is a wider range in the grammar of sweeps."""

    parameter: Parameter
    value: float
    end: Literal["lower", "upper"]
    values: str
    beside: int  # of the best few trials that had this parameter, how many lie there too
    of: int


def audit(study: Reading, differences: Mapping[int, Difference], optimism: float | None) -> list[Finding]:
    """Return what is doubtful about a study; ``differences``: best less another trial, by the other's number."""
    findings = [_resolution(study, differences), *(_boundary(edge) for edge in edges(study)), _trials(study, optimism), _failures(study)]
    return [finding for finding in findings if finding is not None]


def _resolution(study: Reading, differences: Mapping[int, Difference]) -> Finding | None:
    ranked = study.complete
    if len(ranked) < 2 or ranked[1].number not in differences:
        return None
    best, second = ranked[0].number, ranked[1].number
    found = differences[second]
    side = "above" if found.value >= 0 else "below"
    gap = f"On the held-out half it is {abs(found.value):.4f} macro F1 {side} trial {second}, "
    gap += f"paired standard error {found.standard_error:.4f}"
    if found.resolved and found.value > 0:
        return Finding("note", f"Trial {best} is better than its runner-up, trial {second}", f"{gap}.")
    if found.resolved:
        return Finding("warning", f"Trial {best} is best on tune, but worse than trial {second} on the held-out half", f"{gap}.")
    tied = sum(not each.resolved for each in differences.values())
    same = found.value == found.standard_error == 0
    seen = "On the held-out half both score the same" if same else f"{gap}: less than two of these"
    text = f"{seen}. Of the {len(differences)} next best trials, {tied} cannot be told from trial {best}."
    return Finding(
        "warning",
        f"Unresolved: is trial {best} better than trial {second}?",
        f"{text} Take the simpler one, or train both with other seeds.",
    )


def edges(study: Reading) -> list[Edge]:
    """Return the parameters whose best value lies at an end of the range that could be wider."""
    ranked = study.complete
    best = [ranked[0]] if ranked else []
    return [edge for p in study.parameters for record in best if p.name in record.params and (edge := _edge(p, record, ranked))]


def _edge(parameter: Parameter, best: TrialRecord, ranked: list[TrialRecord]) -> Edge | None:
    end = _end(parameter, best.params[parameter.name])
    values = wider(parameter, end) if end else None
    if end is None or values is None:
        return None
    few = [r.params[parameter.name] for r in ranked if parameter.name in r.params][: max(5, len(ranked) // 10)]
    return Edge(parameter, float(best.params[parameter.name]), end, values, sum(_end(parameter, value) == end for value in few), len(few))


def _end(parameter: Parameter, value: float) -> Literal["lower", "upper"] | None:
    position = place(parameter, value)
    if position is None or parameter.distribution.single():
        return None
    return "lower" if position <= NEAR else "upper" if position >= 1 - NEAR else None


def place(parameter: Parameter, value: float) -> float | None:
    """Return where in its range, on its own scale, a value lies: 0 to 1; None for choices."""
    ranged = parameter.distribution
    if not isinstance(ranged, FloatDistribution | IntDistribution):
        return None
    low, high, at = (math.log(x) if ranged.log else x for x in (ranged.low, ranged.high, value))
    return (at - low) / (high - low) if high > low else 0.5


def wider(parameter: Parameter, end: Literal["lower", "upper"]) -> str | None:
    """Return a range half as wide again beyond one end, in the grammar of sweeps; None where values cannot go further."""
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


def _boundary(edge: Edge) -> Finding:
    name, ranged = edge.parameter.name, edge.parameter.distribution
    assert isinstance(ranged, FloatDistribution | IntDistribution)
    text = (
        f"{name} = {edge.value:.4g} of {ranged.low:g} to {ranged.high:g}; {edge.beside} of the {edge.of} best trials lie there. "
        "What is beyond was never tried. In a new study:"
    )
    word = shlex.quote(f"sweep.space.{name}.values='{edge.values}'")
    return Finding("warning", f"{name} is best at the {edge.end} end of its range", text, word)


def _trials(study: Reading, optimism: float | None) -> Finding:
    states = Counter(record.state for record in study.records)
    counted = ", ".join(f"{states[s]} {s}" for s in ("complete", "pruned", "failed", "running") if states[s])
    text = f"{counted or 'none'}. The search saw the tune half only; the headline score is on the other half."
    if optimism is not None:
        text += (
            f" Were all {states['complete']} complete trials equally good, the best of them would look about {optimism:.2g} better "
            f"in {study.objective} than it is."
        )
    return Finding("note", f"Picked from {len(study.records)} trials", text)


def _failures(study: Reading) -> Finding | None:
    reasons = Counter(masked_text(str(r.ended.reason)) for r in study.records if r.ended and r.state == "failed")
    if not reasons:
        return None
    text = "; ".join(f"{reason} ({count}x)" if count > 1 else reason for reason, count in reasons.most_common(8))
    return Finding("warning", f"{sum(reasons.values())} of {len(study.records)} trials failed", text)
