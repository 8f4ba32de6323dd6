"""Two trials of a study next to each other: where they differ, and what only one got right."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowersweep.errors import FlowersweepError
from flowersweep.evaluation.statistics import mcnemar
from flowersweep.report.charts import predictions
from flowersweep.report.checks.noise import paired
from flowersweep.report.images.parts import Link
from flowersweep.report.mistakes import Mistake, Wrong, pictures
from flowersweep.report.page import (
    Column,
    Gallery,
    Heading,
    Part,
    Section,
    SideBySide,
    Table,
    Text,
)
from flowersweep.report.study_view import Predictions, StudyView
from flowersweep.report.summary import class_names
from flowersweep.report.trials.trial_page import curves
from flowersweep.study.records import TrialRecord
from flowersweep.tracking.masking import MASK, secret

log = logging.getLogger(__name__)

MOST = 60  # rows of a table of images
SHOWN = 12  # pictures


def sections(
    study: StudyView,
    first: TrialRecord,
    second: TrialRecord,
    *,
    draw: bool = False,
    named: str | None = None,
) -> list[Section]:
    """Return the parts of the page.

    Args:
        draw: Show pictures of the images, which takes seconds.
        named: Address of the images that the command has named: only those are opened.
    """
    both = (first, second)
    parts = [
        Section("configuration", "Configuration", [_differences(both)]),
        curves(study, both),
        Section("metrics", "Metrics", [_metrics(both)]),
    ]
    a, b = (study.predictions(record.number) for record in both)
    if a is None or b is None:
        missing = "The predictions of both trials are needed; only those of the best are kept."
        return [*parts, Section("images", "Images", [Text(missing, soft=True)])]
    names = class_names(study.started.provenance, a)
    matrices: list[list[Part]] = [
        [Heading(f"Trial {record.number}"), predictions.matrix(each, names, name=f"confusion-{n}")]
        for n, (record, each) in enumerate(zip(both, (a, b), strict=True))
    ]
    return [
        *parts,
        Section("confusion", "Confusion", [SideBySide(matrices)]),
        Section("images", "Images", _images(study, both, (a, b), draw=draw, named=named)),
    ]


def _differences(both: Sequence[TrialRecord]) -> Part:
    """Return the settings in which two trials differ."""
    settings = [{**record.settings, **record.params} for record in both]
    names = dict.fromkeys(name for each in settings for name in each)
    rows = [
        [name, *(MASK if secret(name) else each.get(name) for each in settings)]
        for name in names
        if settings[0].get(name) != settings[1].get(name)
    ]
    if not rows:
        return Text("Their settings are the same.")
    columns = [Column("key", False), *(Column(f"trial {r.number}", False) for r in both)]
    return Table("Where the two trials differ", columns, rows)


def _metrics(both: Sequence[TrialRecord]) -> Part:
    names = sorted({*both[0].metrics} | {*both[1].metrics})
    rows: list[list[Any]] = []
    for name in names:
        a, b = (record.metrics.get(name) for record in both)
        rows.append([name, a, b, a - b if a is not None and b is not None else None])
    columns = [Column("metric", False), *(Column(f"trial {r.number}") for r in both)]
    return Table("Metrics", [*columns, Column("difference")], rows)


def _images(
    study: StudyView,
    both: Sequence[TrialRecord],
    predicted: tuple[Predictions, Predictions],
    *,
    draw: bool,
    named: str | None,
) -> list[Part]:
    """Return the held-out images that one trial got right and the other wrong."""
    a, b = predicted
    names = class_names(study.started.provenance, a)
    labels, guesses = a.holdout_labels, (a.holdout.argmax(axis=1), b.holdout.argmax(axis=1))
    difference, test = paired(a, b), mcnemar(*guesses, labels)
    verdict = (
        f"Held out, trial {both[0].number} minus trial {both[1].number}: "
        f"{difference.value:+.4f} macro F1, standard error {difference.standard_error:.4f}. "
        f"McNemar's p {test.mid_p:.3f}."
    )
    parts: list[Part] = [Text(verdict)]
    if not draw:
        again = f"?a={both[0].number}&b={both[1].number}&pictures=1"
        parts.append(Link("Show the pictures", again, ", which takes some seconds."))
    for right, wrong in ((0, 1), (1, 0)):
        rows = np.flatnonzero((guesses[right] == labels) & (guesses[wrong] != labels))
        title = f"Right in trial {both[right].number}, wrong in trial {both[wrong].number}"
        parts.append(Heading(f"{title}: {len(rows)} images"))
        cases = [
            Wrong("holdout", int(n), int(labels[n]), int(guesses[wrong][n]), 0.0) for n in rows
        ]
        shown = _pictures(study, predicted[wrong], cases[:SHOWN], named) if draw else []
        if shown:
            parts.append(Gallery(shown))
        table = [[n.row, names[n.label], names[n.predicted]] for n in cases[:MOST]]
        columns = [Column("row of the half"), Column("class", False)]
        columns.append(Column(f"predicted by trial {both[wrong].number}", False))
        if table:
            parts.append(Table(title, columns, table, tall=len(table) > 12))
    return parts


def _pictures(
    study: StudyView, predicted: Predictions, cases: Sequence[Wrong], named: str | None
) -> list[Mistake]:
    """Return the images of mistakes; none if they are not at hand."""
    cache = Path(study.folder).parent.parent / "cache"
    try:
        shown = pictures(
            predicted, cases, study.started.config, study.started.provenance, cache, named=named
        )
    except (FlowersweepError, OSError) as error:
        log.warning("the images are not shown: %s", error)
        return []
    return [] if isinstance(shown, str) else shown
