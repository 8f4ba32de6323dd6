"""The page of one study, part by part: what is said, then what shows it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any

from flowersweep.report import charts, curves, paths, predictions
from flowersweep.report.audit import Finding
from flowersweep.report.facts import Facts, class_scores, names_of, pairs, scores
from flowersweep.report.marks import Chart, short
from flowersweep.report.mistakes import Mistake
from flowersweep.report.page import Column, Section, beside, command, figure, grid, numbers, paragraph, table
from flowersweep.report.reading import Predictions
from flowersweep.study.records import TrialRecord
from flowersweep.tracking.masking import masked_text


def introduction(facts: Facts) -> str:
    """Return what stands above everything: the claim and four numbers."""
    study, best = facts.study, facts.study.best
    states = Counter(record.state for record in study.records)
    counted = ", ".join(f"{states[state]} {state}" for state in ("complete", "pruned", "failed", "running") if states[state])
    shown = {"trials": (str(len(study.records)), counted)}
    if best is not None:
        shown["best trial"] = (str(best.number), f"by {study.objective}")
        shown[study.objective] = (short(best.value), "on the half that the search saw")
    held = next((score for score in facts.scores if score.name == "macro_f1"), None)
    if held:
        shown["macro F1, held-out half"] = (f"{held.report:.3f}", "see its interval above")
    return paragraph(facts.claim[:1].upper() + facts.claim[1:] + ".") + numbers(shown)


def sections(facts: Facts) -> list[Section]:
    """Return all parts of the page."""
    return [
        _best(facts),
        _audit(facts),
        *_search(facts),
        _training(facts),
        _evaluation(facts),
        gallery(facts.mistakes),
        _trials(facts),
        _origin(facts),
    ]


def _best(facts: Facts) -> Section:
    best, study = facts.study.best, facts.study
    if best is None or facts.command is None:
        return Section("best", "Best", paragraph("No trial was completed yet."))
    rows = [[p.name, best.params[p.name], p.path] for p in study.parameters if p.name in best.params]
    values = (
        table("What the best trial was given", [Column("parameter", False), Column("value"), Column("key", False)], rows) if rows else ""
    )
    return Section("best", "Best", paragraph("Train this configuration alone:") + command("command", facts.command) + values)


def _audit(facts: Facts) -> Section:
    return Section("audit", "Doubts", f'<ul class="findings">{"".join(_finding(each) for each in facts.findings)}</ul>')


def _finding(finding: Finding) -> str:
    words = f"<pre>{escape(finding.words)}</pre>" if finding.words else ""
    return f'<li class="{finding.kind}"><strong>{escape(finding.title)}</strong>{escape(finding.text)}{words}</li>'


def _search(facts: Facts) -> list[Section]:
    history, important, parallel, contour = (
        charts.history(facts.study, facts.band),
        charts.importance(facts),
        paths.parallel(facts.study),
        paths.contour(facts),
    )
    slices = charts.slices(facts.study)
    return [
        Section("progress", "History", figure(history), (history,)),
        _one("importances", "Importances", important, "Ten trials or more, of which one is complete, are needed."),
        Section("slices", "Slices", grid(slices) if slices else paragraph("Nothing was searched.", "soft"), tuple(slices)),
        _one("together", "Parameters together", parallel, "Two parameters and two complete trials are needed."),
        _one("map", "Map", contour, "Two numbers that were active together in eight trials, and importances, are needed."),
    ]


def _one(name: str, title: str, chart: Chart | None, absent: str) -> Section:
    return Section(name, title, figure(chart, absent), () if chart is None else (chart,))


def _training(facts: Facts) -> Section:
    found = [chart for chart in (curves.curves(facts.study), curves.timeline(facts.study)) if chart is not None]
    titles = {"curves": "Learning curves", "timeline": "Timeline"}
    html = "".join(f"<h3>{titles[chart.name]}</h3>{figure(chart)}" for chart in found) + paragraph(_forecast(facts))
    return Section("training", "Training", html or paragraph("Nothing was trained yet.", "soft"), tuple(found))


def _forecast(facts: Facts) -> str:
    """Say what was forecast and what it took."""
    study = facts.study
    if not study.spans:
        return ""
    ended = [r for r in study.records if r.ended]
    took = max(span.end for span in study.spans.values()) / 60
    forecasts = [f"{made.minutes:.1f} for {made.trials} trials (after {at / 60:.1f})" for at, made in study.record.forecasts]
    told = f"forecast, in minutes: {'; '.join(forecasts)}" if forecasts else "no forecast was made"
    return f"Minutes: {took:.1f} for the {len(ended)} trials that ended; {told}."


def _evaluation(facts: Facts) -> Section:
    if not facts.scores or facts.kept is None:
        return Section("evaluation", "Evaluation", paragraph("The study's folder holds no predictions of a best trial.", "soft"))
    scatter = charts.gap(facts)
    found = evaluation(facts.kept, names_of(facts.study.started.provenance, facts.kept), "The best trial on both halves", scatter)
    told = paragraph("The search chose by the tune half; the holdout shows what is left of it.", "soft")
    return replace(found, html=told + found.html)


def evaluation(kept: Predictions, names: list[str], caption: str, beside_scores: Chart | None = None) -> Section:
    """Return what a trial's predictions say: scores on both halves, confusion, calibration, each class."""
    gaps = [[s.name, s.tune, s.report, s.tune - s.report, s.error] for s in scores(kept)]
    heads = [Column("metric", False), Column("tune"), Column("holdout"), Column("tune - report"), Column("its standard error")]
    mixed = [[p.true, p.taken_for, p.count, p.of] for p in pairs(kept, names)]
    pair_heads = [Column("class", False), Column("taken for", False), Column("times"), Column("of")]
    classes = [[c.name, c.f1, c.precision, c.recall, c.support] for c in class_scores(kept, names)]
    class_heads = [Column("class", False), Column("F1"), Column("precision"), Column("recall"), Column("images")]
    confused, believed = predictions.matrix(kept, names), predictions.calibration(kept)
    html = (
        beside(table(caption, heads, gaps), figure(beside_scores) if beside_scores else "")
        + beside(f"<h3>Confusion</h3>{figure(confused)}", f"<h3>Calibration</h3>{figure(believed)}")
        + beside(
            table("Classes taken for each other, held-out half", pair_heads, mixed) if mixed else paragraph("No image was mistaken."),
            table("Each class on the held-out half, the worst first", class_heads, classes, tall=True),
        )
    )
    shown = (beside_scores, confused, believed) if beside_scores else (confused, believed)
    return Section("evaluation", "Evaluation", html, shown)


def gallery(mistakes: list[Mistake] | str) -> Section:
    """Return the pictures of the worst mistakes, or why there are none."""
    if isinstance(mistakes, str) or not mistakes:
        return Section("mistakes", "Mistakes", paragraph(str(mistakes or "Nothing was predicted yet."), "soft"))
    told = paragraph(f"The {len(mistakes)} images that the trial was surest of and wrong about: what it is, what it was taken for.", "soft")
    return Section("mistakes", "Mistakes", f'{told}<ul class="mistakes">{"".join(map(_mistake, mistakes))}</ul>')


def _mistake(each: Mistake) -> str:
    alt = escape(f"{each.true}, taken for {each.predicted}")
    words = f"<b>{escape(each.true)}</b><span>taken for {escape(each.predicted)}</span><small>{each.probability:.0%}, {each.half}</small>"
    return f'<li><img alt="{alt}" title="{escape(each.id)}" src="data:image/jpeg;base64,{escape(each.jpeg)}">{words}</li>'


def _trials(facts: Facts) -> Section:
    study = facts.study
    names = [p.name for p in study.parameters]
    numeric = {name: all(isinstance(r.params.get(name, 0.0), int | float) for r in study.records) for name in names}
    failed = any(r.state == "failed" for r in study.records)
    heads = [Column("trial"), Column("state", False), Column(study.objective), Column("tune F1"), Column("report F1")]
    heads += [Column("best less this"), Column("epochs"), Column("seconds"), *(Column(name, numeric[name]) for name in names)]
    heads += [Column("reason", False)] if failed else []
    shown = {r.number for r in study.drawn}
    ended = [r for r in study.drawn if r.state != "complete"]
    ranked = [*(r for r in study.complete if r.number in shown), *ended]
    rows = [_row(facts, record, names) + ([_reason(record)] if failed else []) for record in ranked]
    note = paragraph("Best less this: the difference in macro F1 on the held-out half, with its paired standard error.", "soft")
    note += paragraph(study.sampled.replace("drawn", "listed") + " The journal has all." if study.sampled else "", "soft")
    caption = "Trials, the best first" if study.sampled else "All trials, the best first"
    return Section(
        "trials",
        "Trials",
        table(
            caption,
            heads,
            rows,
            best=0 if study.best else None,
            tall=True,
        )
        + note,
    )


def _row(facts: Facts, record: TrialRecord, names: list[str]) -> list[Any]:
    study, difference = facts.study, facts.differences.get(record.number)
    span = study.spans.get(record.number)
    less = f"{difference.value:+.4f} ± {difference.standard_error:.4f}" if difference else None
    scores = [record.value, record.metrics.get("tune/macro_f1"), record.metrics.get("holdout/macro_f1"), less]
    done = max(study.curves.get(record.number, {}), default=0)
    return [record.number, record.state, *scores, done, span.end - span.start if span else None, *(record.params.get(n) for n in names)]


def _reason(record: TrialRecord) -> str | None:
    return masked_text(record.ended.reason) if record.ended and record.ended.reason else None


def _origin(facts: Facts) -> Section:
    started = facts.study.started
    return origin(started.provenance, started.time, started.seed)


def origin(known: Mapping[str, Any], begun: float, seed: Any) -> Section:
    """Return where numbers come from: command, data, code, machine, packages."""
    data = known.get("data", {})
    changed = " with changes" if known.get("git_dirty") else ""
    machine = [f"{known['cores']} cores" if known.get("cores") else "", known.get("cpu"), known.get("host")]
    rows = {
        "begun": time.strftime("%Y-%m-%d %H:%M", time.localtime(begun)),
        "command": masked_text(str(known.get("command", ""))),
        "data": f"{data.get('name')}, digest {data.get('digest')}, {', '.join(f'{k} {v}' for k, v in data.get('counts', {}).items())}",
        "device": f"{known.get('device_kind')}, replicas: {known.get('replicas')}",
        "machine": ", ".join(str(each) for each in machine if each),
        "commit": f"{known.get('git_commit') or 'not from a checkout'}{changed}",
        "code": known.get("code"),
        "seed": seed,
        "packages": ", ".join(f"{name} {number}" for name, number in known.get("versions", {}).items()),
    }
    return Section(
        "origin", "Origin", table("Where it came from", [Column("what", False), Column("is", False)], [list(r) for r in rows.items()])
    )
