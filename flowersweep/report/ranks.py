"""Whether one study is a proxy of another: the order in which both put the configurations that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowersweep.evaluation.selection import Correlation, rank_correlation
from flowersweep.report.page import Column, paragraph, table
from flowersweep.report.reading import Reading

FEWEST = 4  # configurations that two studies must share for a rank correlation


@dataclass(frozen=True)
class Ranks:
    """Whether two studies put the configurations that both of them trained in the same order, by the objective of each."""

    first: str
    second: str
    shared: int  # configurations, but for how long and how they were trained
    correlation: Correlation | None  # None for too few


def ranks(first: Reading, second: Reading) -> Ranks:
    """Compare the order of the configurations that two studies share: the cheaper study is a proxy of the other if the orders agree.

    A configuration is what both studies searched, but for keys under ``train``, which is what a proxy saves on; those count where nothing
    else was searched. Of a configuration that was trained several times the mean counts.
    """
    both = {p.path for p in first.parameters} & {p.path for p in second.parameters} - {"seed"}
    paths = {path for path in both if not path.startswith("train.")} or both
    one, other = _by_configuration(first, paths), _by_configuration(second, paths)
    shared = sorted(one.keys() & other.keys()) if paths else []
    values = [[sign * float(np.mean(by[key])) for key in shared] for sign, by in ((_sign(first), one), (_sign(second), other))]
    enough = len(shared) >= FEWEST and all(len({*each}) > 1 for each in values)
    return Ranks(first.name, second.name, len(shared), rank_correlation(*values) if enough else None)


def _sign(study: Reading) -> int:
    return 1 if study.started.direction == "maximize" else -1


def _by_configuration(study: Reading, paths: set[str]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for record in study.complete:
        given = {p.path: record.params[p.name] for p in study.parameters if p.path in paths and p.name in record.params}
        found.setdefault(repr(sorted(given.items())), []).append(float(record.value or 0.0))
    return found


def order(found: Sequence[Ranks]) -> str:
    """Return the table of them, as HTML."""
    heads = [Column("study", False), Column("and", False), Column("shared configurations")]
    heads += [Column("Spearman"), Column("95 % from"), Column("to")]
    rows = [[each.first, each.second, each.shared, *(each.correlation or [None] * 3)] for each in found]
    note = (
        "Whether two studies put the configurations that both trained in the same order: near 1, the cheaper one is a good proxy. A "
        f"configuration is what both searched, apart from train.*; at least {FEWEST} are needed. Two sweeps of one space with sampler=qmc "
        "and one seed share all of theirs."
    )
    return table("Order of the configurations", heads, rows) + paragraph(note, "soft")
