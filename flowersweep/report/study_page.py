"""The page of one study, part by part: what is said, then what shows it."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowersweep.config.keys import says
from flowersweep.report import simple_models
from flowersweep.report.charts import parameters, predictions, search, training
from flowersweep.report.charts.plotting import Chart
from flowersweep.report.images.parts import Link
from flowersweep.report.mistakes import Mistake
from flowersweep.report.page import (
    AuditList,
    Column,
    Command,
    Gallery,
    Heading,
    Numbers,
    Part,
    Section,
    SideBySide,
    Table,
    Text,
    grid,
)
from flowersweep.report.study_view import LEFT_OUT, Predictions
from flowersweep.report.summary import (
    StudySummary,
    class_names,
    confused_pairs,
    score_classes,
    score_halves,
)
from flowersweep.study.records import TrialRecord
from flowersweep.study.sentences import describe_judging
from flowersweep.tracking.masking import masked_text
from flowersweep.util.text import number

MOST_LEFT_OUT = 500  # rows of a table
STATES = ("complete", "pruned", "failed", "running")


def introduction(summary: StudySummary, *, images: str | None = None) -> list[Part]:
    """Return what stands above everything: the claim and four numbers, and a link to the page about
    the ``images``, if there is one.
    """
    study, best = summary.study, summary.study.best
    judging = describe_judging(study.started)
    states = Counter(record.state for record in study.records)
    counted = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    boxes = {"Trials": (str(len(study.records)), counted)}
    if best is not None:
        boxes["Best trial"] = (f"No. {best.number}", f"by {study.objective}")
        seen = "cross-validated over train and tune" if judging else "on the half that it saw"
        boxes[study.objective] = (number(best.value), seen)
    f1 = next((score for score in summary.scores if score.name == "macro_f1"), None)
    if f1:
        boxes["Held-out macro F1"] = (
            f"{f1.holdout:.3f}",
            "of the best trial; its interval is above",
        )
    texts = [Text(text[:1].upper() + text[1:] + ".") for text in (summary.claim, judging) if text]
    return [*texts, Numbers(boxes), _link(summary, images)]


def _link(summary: StudySummary, images: str | None) -> Part:
    """Return a link to the page about the images of a study, or the command that writes it."""
    if images is not None:
        remark = ": counts, contact sheets, near-duplicates and suspicious labels."
        return Link("The images of this study", images, remark)
    words = [word for word in summary.study.started.overrides if says([word], "data", "dir")]
    command = masked_text(shlex.join(["python", "-m", "flowersweep", "data", *words]))
    return Text(f"Look at the images: {command} writes a page about them.", soft=True)


def sections(summary: StudySummary) -> list[Section]:
    """Return all sections of the page."""
    return [
        _best(summary),
        Section("caveats", "Caveats", [AuditList(summary.audit_items)]),
        simple_models.section(summary.study, summary.predictions, summary.simple_models),
        *_search(summary),
        _training(summary),
        _evaluation(summary),
        gallery(summary.mistakes),
        _trials(summary),
        _provenance(summary),
    ]


def _best(summary: StudySummary) -> Section:
    best, study = summary.study.best, summary.study
    if best is None or summary.command is None:
        return Section("best", "Best trial", [Text("No trial is complete yet.")])
    rows = [
        [p.name, best.params[p.name], p.path] for p in study.parameters if p.name in best.params
    ]
    columns = [Column("parameter", False), Column("value"), Column("configuration key", False)]
    table: list[Part] = [Table("Parameters of the best trial", columns, rows)] if rows else []
    return Section(
        "best",
        "Best trial",
        [
            Text("Train this configuration alone, with the same seed:"),
            Command(summary.command),
            *table,
        ],
    )


def _search(summary: StudySummary) -> list[Section]:
    study, slices = summary.study, search.slices(summary.study)
    history = search.history(study, summary.noise)
    return [
        Section("history", "History", [history]),
        Section(
            "importance",
            "Importance",
            _chart_or(search.importance(summary), "This needs ten trials, one of them complete."),
        ),
        Section(
            "slices",
            "Slices",
            [grid(slices)] if slices else [Text("Nothing was searched.", soft=True)],
        ),
        Section(
            "parallel",
            "Parallel",
            _chart_or(
                parameters.parallel(study),
                "This needs two parameters and two complete trials.",
            ),
        ),
        Section(
            "contour",
            "Contour",
            _chart_or(
                parameters.contour(summary),
                "This needs importances, and two numeric parameters that eight trials share.",
            ),
        ),
    ]


def _chart_or(chart: Chart | None, absent: str) -> list[Part]:
    return [Text(absent, soft=True)] if chart is None else [chart]


def _training(summary: StudySummary) -> Section:
    study = summary.study
    titled = (("Learning curves", training.curves(study)), ("Timeline", training.timeline(study)))
    parts: list[Part] = []
    for title, chart in titled:
        if chart is not None:
            parts += [Heading(title), chart]
    nothing = Text("Nothing was trained yet.", soft=True)
    return Section(
        "training", "Training", [*parts, Text(_minutes(summary))] if parts else [nothing]
    )


def _minutes(summary: StudySummary) -> str:
    """Say how many minutes were forecast, and how many it took."""
    study = summary.study
    if not study.spans:
        return ""
    ended = sum(record.ended is not None for record in study.records)
    minutes = max(span.end for span in study.spans.values()) / 60
    forecasts = [
        f"{forecast.minutes:.1f} for {forecast.trials} trials (after {at / 60:.1f})"
        for at, forecast in study.record.forecasts
    ]
    sentence = (
        f"Forecast, in minutes: {'; '.join(forecasts)}" if forecasts else "There was no forecast"
    )
    return f"The {ended} trials that ended took {minutes:.1f} minutes. {sentence}."


def _evaluation(summary: StudySummary) -> Section:
    if summary.predictions is None:
        missing = Text(
            "The predictions of the best trial are not in the study's folder.", soft=True
        )
        return Section("evaluation", "Evaluation", [missing])
    names = class_names(summary.study.started.provenance, summary.predictions)
    section = evaluation(
        summary.predictions, names, "The best trial on both halves of val", search.gap(summary)
    )
    note = (
        "The search chose by cross-validation: tune stands for all images of train and tune. It "
        "never saw the held-out half."
        if describe_judging(summary.study.started)
        else "The search chose by the tune half. It never saw the held-out half."
    )
    return replace(section, parts=[Text(note, soft=True), *section.parts])


def evaluation(
    predicted: Predictions, names: list[str], caption: str, gap: Chart | None = None
) -> Section:
    """Return what a trial's predictions say: scores on both halves, confusion, calibration, each
    class.
    """
    halves = [
        [s.name, s.tune, s.holdout, s.tune - s.holdout, s.error] for s in score_halves(predicted)
    ]
    score_columns = [Column("metric", False), Column("tune"), Column("held out")]
    score_columns += [Column("tune minus held out"), Column("standard error")]
    pairs = [[p.true, p.taken_for, p.count, p.of] for p in confused_pairs(predicted, names)]
    pair_columns = [Column("class", False), Column("taken for", False)]
    pair_columns += [Column("times"), Column("images of the class")]
    classes = [
        [c.name, c.f1, c.precision, c.recall, c.support] for c in score_classes(predicted, names)
    ]
    class_columns = [
        Column("class", False),
        Column("F1"),
        Column("precision"),
        Column("recall"),
        Column("images"),
    ]
    confused: Part = (
        Table("Classes taken for each other on the held-out half", pair_columns, pairs)
        if pairs
        else Text("No image of the held-out half was mistaken.")
    )
    parts: list[Part] = [
        SideBySide([[Table(caption, score_columns, halves)], [] if gap is None else [gap]]),
        SideBySide(
            [
                [Heading("Confusion"), predictions.matrix(predicted, names)],
                [Heading("Calibration"), predictions.calibration(predicted)],
            ]
        ),
        SideBySide(
            [
                [confused],
                [
                    Table(
                        "Each class on the held-out half, the worst first",
                        class_columns,
                        classes,
                        tall=True,
                    )
                ],
            ]
        ),
    ]
    return Section("evaluation", "Evaluation", parts)


def gallery(mistakes: list[Mistake] | str) -> Section:
    """Return the pictures of the worst mistakes, or why there are none."""
    if isinstance(mistakes, str) or not mistakes:
        return Section(
            "mistakes", "Mistakes", [Text(str(mistakes or "Nothing was predicted yet."), soft=True)]
        )
    note = f"The {len(mistakes)} wrong predictions that the network was most confident of."
    return Section("mistakes", "Mistakes", [Text(note, soft=True), Gallery(mistakes)])


def _trials(summary: StudySummary) -> Section:
    study = summary.study
    names = [p.name for p in study.parameters]
    failed = any(r.state == "failed" for r in study.records)
    columns = [
        Column("trial"),
        Column("state", False),
        Column(study.objective),
        Column("tune/macro_f1"),
    ]
    columns += [Column("best minus this, held out"), Column("epochs"), Column("seconds")]
    columns += [Column(name, _is_numeric(study.records, name)) for name in names]
    columns += [Column("reason", False)] if failed else []
    shown = {r.number for r in study.drawn}
    ended = [r for r in study.drawn if r.state != "complete"]
    ranked = [*(r for r in study.complete if r.number in shown), *ended]
    rows = [
        _row(summary, record, names) + ([_reason(record)] if failed else []) for record in ranked
    ]
    note = (
        "Best minus this: the difference in macro F1 on the held-out half, with its paired "
        "standard error."
    )
    sampled = (
        study.sampled.replace("drawn", "listed") + " The journal has all." if study.sampled else ""
    )
    caption = "Trials, the best first" if study.sampled else "All trials, the best first"
    table = Table(caption, columns, rows, best=0 if study.best else None, tall=True)
    return Section("trials", "Trials", [table, Text(note, soft=True), Text(sampled, soft=True)])


def _is_numeric(records: Sequence[TrialRecord], name: str) -> bool:
    return all(isinstance(r.params.get(name, 0.0), int | float) for r in records)


def _row(summary: StudySummary, record: TrialRecord, names: Sequence[str]) -> list[Any]:
    study, difference = summary.study, summary.differences.get(record.number)
    span = study.spans.get(record.number)
    less = f"{difference.value:+.4f} ± {difference.standard_error:.4f}" if difference else None
    epochs = max(study.curves.get(record.number, {}), default=0)
    cells = [record.number, record.state, record.value, record.metrics.get("tune/macro_f1"), less]
    return [
        *cells,
        epochs,
        span.end - span.start if span else None,
        *(record.params.get(n) for n in names),
    ]


def _reason(record: TrialRecord) -> str | None:
    return masked_text(str(record.ended.reason)) if record.ended and record.ended.reason else None


def _provenance(summary: StudySummary) -> Section:
    started = summary.study.started
    section = provenance(started.provenance, started.time, started.seed)
    return replace(section, parts=[*section.parts, *_left_out(summary.study.left_out())])


def _left_out(rows: Sequence[Sequence[str]]) -> list[Part]:
    """Return the extra images that are not trained on, the first of them."""
    if len(rows) < 2:
        return []
    heading, *rest = rows
    columns = [Column(name, number=name == "images") for name in heading]
    shown = [row for row in rest[:MOST_LEFT_OUT] if len(row) == len(heading)]
    more = f"{len(rest) - len(shown)} more are in {LEFT_OUT}." if len(rest) > len(shown) else ""
    caption = "Images of data.extra that are not trained on"
    return [Table(caption, columns, shown, tall=True), Text(more, soft=True)]


def provenance(known: Mapping[str, Any], started: float, seed: Any) -> Section:
    """Return where the numbers come from: command, data, code, machine, packages."""
    data = known.get("data", {})
    changed = " with changes" if known.get("git_dirty") else ""
    machine = [
        f"{known['cores']} cores" if known.get("cores") else "",
        known.get("cpu"),
        known.get("host"),
    ]
    counts = ", ".join(f"{split} {count}" for split, count in data.get("counts", {}).items())
    rows = {
        "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(started)),
        "command": masked_text(str(known.get("command", ""))),
        "data": f"{data.get('name')}, digest {data.get('digest')}, {counts}",
        **({"extra images": "; ".join(data["extra"])} if data.get("extra") else {}),
        "device": f"{known.get('device_kind')}, {known.get('replicas')} replicas",
        "machine": ", ".join(str(item) for item in machine if item),
        "commit": f"{known.get('git_commit') or 'not from a checkout'}{changed}",
        "digest of the code": known.get("code"),
        "seed": seed,
        "packages": ", ".join(
            f"{name} {number}" for name, number in known.get("versions", {}).items()
        ),
    }
    table = Table(
        "Where the numbers come from",
        [Column("what", False), Column("value", False)],
        [*map(list, rows.items())],
    )
    return Section("provenance", "Provenance", [table])
