"""Several studies on one page: their best trials, their differences, their histories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from flowersweep.config.paths import flatten
from flowersweep.evaluation.scores import accuracy, macro_f1
from flowersweep.evaluation.statistics import (
    Difference,
    McNemar,
    macro_f1_interval,
    mcnemar,
    wilson,
)
from flowersweep.report.charts.plotting import LOG, Chart
from flowersweep.report.charts.search import history
from flowersweep.report.checks.noise import paired
from flowersweep.report.page import Column, Part, Section, Table, Text, grid
from flowersweep.report.rank_agreement import RankAgreement, agreement_parts, rank_agreement
from flowersweep.report.study_view import Predictions, StudyView
from flowersweep.tracking.masking import masked
from flowersweep.util.text import number


@dataclass(frozen=True)
class Entry:
    """A study and what its best trial predicted, if that is still there."""

    study: StudyView
    predictions: Predictions | None


@dataclass(frozen=True)
class Comparison:
    """Studies and the differences of their best trials.

    A difference is None where the held-out images are not the same.
    """

    entries: list[Entry]
    differences: list[tuple[str, str, Difference | None]]
    tests: list[McNemar | None]  # of the same pairs: how many images only one of them gets right
    ranks: list[RankAgreement]


def compare(studies: Sequence[StudyView]) -> Comparison:
    """Compare the best trials of studies on the held-out half."""
    entries = [
        Entry(study, study.predictions(study.best.number) if study.best else None)
        for study in studies
    ]
    pairs = [(a, b, _difference(a, b)) for a, b in combinations(entries, 2)]
    return Comparison(
        entries,
        [(a.study.name, b.study.name, difference) for a, b, difference in pairs],
        [None if difference is None else _test(a, b) for a, b, difference in pairs],
        [rank_agreement(a, b) for a, b in combinations(studies, 2)],
    )


def _test(first: Entry, second: Entry) -> McNemar:
    assert first.predictions is not None
    assert second.predictions is not None
    return mcnemar(
        first.predictions.holdout.argmax(axis=1),
        second.predictions.holdout.argmax(axis=1),
        first.predictions.holdout_labels,
    )


def _difference(first: Entry, second: Entry) -> Difference | None:
    if (
        first.predictions is None
        or second.predictions is None
        or first.study.held_out_digest is None
    ):
        return None
    digests = {entry.study.held_out_digest for entry in (first, second)}
    same = (
        np.array_equal(first.predictions.holdout_labels, second.predictions.holdout_labels)
        and first.predictions.holdout.shape == second.predictions.holdout.shape
    )
    return paired(first.predictions, second.predictions) if same and len(digests) == 1 else None


def sections(comparison: Comparison) -> list[Section]:
    """Return all parts of the page."""
    charts = _histories([entry.study for entry in comparison.entries])
    return [
        Section("best", "Best trials", _bests(comparison.entries)),
        Section("differences", "Differences", _differences(comparison)),
        Section("ranks", "Rank agreement", agreement_parts(comparison.ranks)),
        Section("histories", "Histories", [grid(charts)]),
        Section("settings", "Settings", _settings([entry.study for entry in comparison.entries])),
    ]


def _bests(entries: Sequence[Entry]) -> list[Part]:
    heads = [Column("study", False), Column("held-out macro F1"), Column("95 % from"), Column("to")]
    heads += [Column("accuracy"), Column("95 % from"), Column("to"), Column("images")]
    heads += [
        Column("best trial"),
        Column("of trials"),
        Column("complete"),
        Column("objective", False),
        Column("value"),
    ]
    note = (
        "Each best trial was picked by the tune half; these scores are on the other half. One "
        "seed each."
    )
    table = Table("The best trial of each study", heads, [_best(entry) for entry in entries])
    return [table, Text(note, soft=True)]


def _best(entry: Entry) -> list[Any]:
    study, predicted, best = entry.study, entry.predictions, entry.study.best
    scores: list[Any] = [None] * 7
    if predicted is not None:
        guessed, right = (
            predicted.holdout.argmax(axis=1),
            accuracy(predicted.holdout, predicted.holdout_labels),
        )
        scores = [
            macro_f1(predicted.holdout, predicted.holdout_labels, predicted.holdout.shape[1]),
            *macro_f1_interval(guessed, predicted.holdout_labels, predicted.holdout.shape[1]),
            right,
            *wilson(round(right * len(guessed)), len(guessed)),
            len(guessed),
        ]
    end = [study.objective, best.value if best else None]
    return [
        study.name,
        *scores,
        best.number if best else None,
        len(study.records),
        len(study.complete),
        *end,
    ]


def _differences(comparison: Comparison) -> list[Part]:
    rows: list[list[Any]] = []
    for (first, second, difference), test in zip(
        comparison.differences, comparison.tests, strict=True
    ):
        if difference is None or test is None:
            rows.append([first, second, *[None] * 7, "not the same held-out images"])
            continue
        better = first if difference.value > 0 else second
        verdict = f"{better} is better" if difference.resolved else "unresolved"
        ends = [difference.value, difference.standard_error, difference.low, difference.high]
        rows.append([first, second, *ends, test.only_first, test.only_second, test.mid_p, verdict])
    heads = [
        Column("study", False),
        Column("minus study", False),
        Column("macro F1"),
        Column("standard error"),
    ]
    heads += [
        Column("95 % from"),
        Column("to"),
        Column("only the first right"),
        Column("only the second"),
    ]
    heads += [Column("McNemar's p"), Column("verdict", False)]
    note = (
        "Paired: both models saw the same images. Below two standard errors a difference is "
        "unresolved. McNemar's test (mid-p) is of "
        "accuracy: images that only one of them gets right. Other seeds would add to it."
    )
    return [
        Table("Differences of the best trials on the held-out half", heads, rows),
        Text(note, soft=True),
    ]


def _histories(studies: Sequence[StudyView]) -> list[Chart]:
    charts = [history(study, None) for study in studies]
    if len({study.objective for study in studies}) == 1:
        values = [r.value for study in studies for r in study.records if r.value is not None]
        axes = [chart.figure["layout"]["yaxis"] for chart in charts]
        logged = (
            bool(values) and min(values) > 0 and any(each.get("type") == "log" for each in axes)
        )
        for each in axes:
            each |= _range(values, logged)
    return [
        replace(chart, name=f"history-{n}", note=f"{study.name}. {chart.note}")
        for n, (chart, study) in enumerate(zip(charts, studies, strict=True))
    ]


def _range(values: Sequence[float], logged: bool) -> dict[str, Any]:
    """Return the same ends for all, so that heights can be compared."""
    if not values:
        return {}
    low, high = (math.log10(end) if logged else end for end in (min(values), max(values)))
    edge = (high - low) * 0.05 or 0.05
    return {"range": [low - edge, high + edge], **(LOG if logged else {})}


def _settings(studies: Sequence[StudyView]) -> list[Part]:
    """Return the settings that differ between the studies, with those of each best trial."""
    columns = [dict(flatten(masked(_meaning(study)))) for study in studies]
    paths = sorted({path for column in columns for path in column})
    rows = [[path, *(_shown(column.get(path)) for column in columns)] for path in paths]
    differ = [row for row in rows if len({str(cell) for cell in row[1:]}) > 1]
    heads: list[Column] = [Column("key", False), *(Column(study.name, False) for study in studies)]
    return [
        Table("Settings in which the best trials differ", heads, differ)
        if differ
        else Text("Nothing differs.")
    ]


def _meaning(study: StudyView) -> dict[str, Any]:
    best = study.best
    given = (
        {p.path: best.params[p.name] for p in study.parameters if p.name in best.params}
        if best
        else {}
    )
    return {**study.started.settings, **given}


def _shown(value: Any) -> Any:
    return None if value is None else number(value)
