"""Whether a cheaper study ranks configurations like a dearer one, so that it is a proxy of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowersweep.config.keys import is_within
from flowersweep.evaluation.selection import rank_correlation
from flowersweep.evaluation.statistics import Estimate
from flowersweep.report.page import Column, Part, Table, Text
from flowersweep.report.study_view import StudyView

FEWEST = 4  # configurations that two studies must share for a rank correlation


@dataclass(frozen=True)
class RankAgreement:
    """Whether two studies put the configurations that both trained in the same order."""

    first: str
    second: str
    shared: int  # configurations, but for how long and how they were trained
    correlation: Estimate | None  # None for too few


def rank_agreement(first: StudyView, second: StudyView) -> RankAgreement:
    """Compare the order of the configurations that two studies share.

    The cheaper study is a proxy of the other if the orders agree.

    A configuration is what both studies searched, but for keys under ``train``, which is what a
    proxy saves on; those count where nothing else was searched. Of a configuration that was trained
    several times the mean counts.
    """
    both = {p.path for p in first.parameters} & {p.path for p in second.parameters} - {"seed"}
    paths = {path for path in both if not is_within(path, "train")} or both
    one, other = _by_configuration(first, paths), _by_configuration(second, paths)
    shared = sorted(one.keys() & other.keys()) if paths else []
    values = [
        [sign * float(np.mean(by[key])) for key in shared]
        for sign, by in ((_sign(first), one), (_sign(second), other))
    ]
    enough = len(shared) >= FEWEST and all(len({*each}) > 1 for each in values)
    return RankAgreement(
        first.name, second.name, len(shared), rank_correlation(*values) if enough else None
    )


def _sign(study: StudyView) -> int:
    return 1 if study.started.direction == "maximize" else -1


def _by_configuration(study: StudyView, paths: set[str]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for record in study.complete:
        params = {
            p.path: record.params[p.name]
            for p in study.parameters
            if p.path in paths and p.name in record.params
        }
        values.setdefault(repr(sorted(params.items())), []).append(float(record.value or 0.0))
    return values


def agreement_parts(agreements: Sequence[RankAgreement]) -> list[Part]:
    """Return the table of them, and how to read it."""
    columns = [
        Column("study", False),
        Column("other study", False),
        Column("shared configurations"),
    ]
    columns += [Column("Spearman"), Column("95 % from"), Column("to")]
    rows = [[a.first, a.second, a.shared, *(a.correlation or [None] * 3)] for a in agreements]
    note = (
        "Do two studies put the configurations that both trained in the same order? Near 1, the "
        "cheaper study is a good proxy of the "
        f"other. A configuration is what both searched, apart from train.*; at least {FEWEST} are "
        "needed. Two sweeps of one space with "
        "sampler=qmc and one seed share all of theirs."
    )
    return [Table("Order of the shared configurations", columns, rows), Text(note, soft=True)]
