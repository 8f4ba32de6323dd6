"""Several studies on one page: the best of each with its interval, what differs between them, and their histories side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from flowersweep.config.paths import flatten
from flowersweep.evaluation.scores import accuracy, macro_f1
from flowersweep.evaluation.statistics import Difference, McNemar, macro_f1_interval, mcnemar, wilson
from flowersweep.report.charts import history
from flowersweep.report.marks import LOG, Chart
from flowersweep.report.noise import paired
from flowersweep.report.page import Column, Section, grid, paragraph, table
from flowersweep.report.ranks import Ranks, order, ranks
from flowersweep.report.reading import Predictions, Reading
from flowersweep.tracking.masking import masked


@dataclass(frozen=True)
class Entry:
    """A study and what its best trial predicted, if that is still there."""

    study: Reading
    kept: Predictions | None


@dataclass(frozen=True)
class Comparison:
    """Studies and the differences of their best trials; None where the held-out images are not the same."""

    entries: list[Entry]
    differences: list[tuple[str, str, Difference | None]]
    tests: list[McNemar | None]  # of the same pairs: how many images only one of them gets right
    ranks: list[Ranks]


def compare(studies: Sequence[Reading]) -> Comparison:
    """Compare the best trials of studies on the held-out half."""
    entries = [Entry(study, study.predictions(study.best.number) if study.best else None) for study in studies]
    pairs = [(a, b, _difference(a, b)) for a, b in combinations(entries, 2)]
    return Comparison(
        entries,
        [(a.study.name, b.study.name, difference) for a, b, difference in pairs],
        [None if difference is None else _test(a, b) for a, b, difference in pairs],
        [ranks(a, b) for a, b in combinations(studies, 2)],
    )


def _test(first: Entry, second: Entry) -> McNemar:
    assert first.kept is not None
    assert second.kept is not None
    return mcnemar(first.kept.holdout.argmax(axis=1), second.kept.holdout.argmax(axis=1), first.kept.holdout_labels)


def _difference(first: Entry, second: Entry) -> Difference | None:
    if first.kept is None or second.kept is None or first.study.started.settings.get("data.digest") is None:
        return None
    digests = {entry.study.started.settings.get("data.digest") for entry in (first, second)}
    same = np.array_equal(first.kept.holdout_labels, second.kept.holdout_labels) and first.kept.holdout.shape == second.kept.holdout.shape
    return paired(first.kept, second.kept) if same and len(digests) == 1 else None


def sections(found: Comparison) -> list[Section]:
    """Return all parts of the page."""
    charts = _histories([entry.study for entry in found.entries])
    return [
        Section("best", "Best of each", _bests(found.entries)),
        Section("differences", "Differences", _differences(found)),
        Section("ranks", "Order", order(found.ranks)),
        Section("progress", "Histories", grid(charts), tuple(charts)),
        Section("settings", "Settings", _settings([entry.study for entry in found.entries])),
    ]


def _bests(entries: Sequence[Entry]) -> str:
    heads = [Column("study", False), Column("macro F1, held-out"), Column("95 % from"), Column("to")]
    heads += [Column("accuracy"), Column("95 % from"), Column("to"), Column("images")]
    heads += [Column("best trial"), Column("of trials"), Column("complete"), Column("objective", False), Column("value")]
    note = "Each best trial was picked by the tune half; these scores are on the other half. One seed each."
    return table("The best trial of each study", heads, [_best(entry) for entry in entries]) + paragraph(note, "soft")


def _best(entry: Entry) -> list[Any]:
    study, kept, best = entry.study, entry.kept, entry.study.best
    scores: list[Any] = [None] * 7
    if kept is not None:
        guessed, right = kept.holdout.argmax(axis=1), accuracy(kept.holdout, kept.holdout_labels)
        scores = [
            macro_f1(kept.holdout, kept.holdout_labels, kept.holdout.shape[1]),
            *macro_f1_interval(guessed, kept.holdout_labels, kept.holdout.shape[1]),
            right,
            *wilson(round(right * len(guessed)), len(guessed)),
            len(guessed),
        ]
    end = [study.objective, best.value if best else None]
    return [study.name, *scores, best.number if best else None, len(study.records), len(study.complete), *end]


def _differences(found: Comparison) -> str:
    rows: list[list[Any]] = []
    for (first, second, each), test in zip(found.differences, found.tests, strict=True):
        if each is None or test is None:
            rows.append([first, second, *[None] * 7, "not the same held-out images"])
            continue
        better = first if each.value > 0 else second
        verdict = f"{better} is better" if each.resolved else "unresolved"
        ends = [each.value, each.standard_error, each.low, each.high]
        rows.append([first, second, *ends, test.only_first, test.only_second, test.mid_p, verdict])
    heads = [Column("study", False), Column("less", False), Column("macro F1"), Column("standard error")]
    heads += [Column("95 % from"), Column("to"), Column("only the first right"), Column("only the second")]
    heads += [Column("McNemar's p"), Column("so", False)]
    note = (
        "Paired: both models saw the same images. Below two standard errors a difference is unresolved. McNemar's test (mid-p) is of "
        "accuracy: images that only one of them gets right. Other seeds would add to it."
    )
    return table("Differences of the best trials", heads, rows) + paragraph(note, "soft")


def _histories(studies: Sequence[Reading]) -> list[Chart]:
    charts = [history(study, None) for study in studies]
    if len({study.objective for study in studies}) == 1:
        values = [r.value for study in studies for r in study.records if r.value is not None]
        axes = [chart.figure["layout"]["yaxis"] for chart in charts]
        logged = bool(values) and min(values) > 0 and any(each.get("type") == "log" for each in axes)
        for each in axes:
            each |= _range(values, logged)
    return [
        replace(chart, name=f"history-{n}", note=f"{study.name}. {chart.note}")
        for n, (chart, study) in enumerate(zip(charts, studies, strict=True))
    ]


def _range(values: Sequence[float], logged: bool) -> dict[str, Any]:
    """The same ends for all, so that heights can be compared."""
    if not values:
        return {}
    low, high = (math.log10(end) if logged else end for end in (min(values), max(values)))
    edge = (high - low) * 0.05 or 0.05
    return {"range": [low - edge, high + edge], **(LOG if logged else {})}


def _settings(studies: Sequence[Reading]) -> str:
    """What the studies do not have in common, and what the best of each was given."""
    columns = [dict(flatten(masked(_meaning(study)))) for study in studies]
    paths = sorted({path for column in columns for path in column})
    rows = [[path, *(_shown(column.get(path)) for column in columns)] for path in paths]
    differ = [row for row in rows if len({str(cell) for cell in row[1:]}) > 1]
    heads = [Column("key", False), *(Column(study.name, False) for study in studies)]
    return table("Where the best trials differ", heads, differ) if differ else paragraph("Nothing differs.")


def _meaning(study: Reading) -> dict[str, Any]:
    best = study.best
    given = {p.path: best.params[p.name] for p in study.parameters if p.name in best.params} if best else {}
    return {**study.started.settings, **given}


def _shown(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value if value is None else str(value)
