"""The simplest models next to the best trial: what the page says of them."""

from __future__ import annotations

from flowersweep.evaluation.scores import accuracy, macro_f1
from flowersweep.evaluation.statistics import macro_f1_interval
from flowersweep.report.checks.audit import AuditItem
from flowersweep.report.page import Column, Part, Section, Table, Text
from flowersweep.report.study_view import Predictions, StudyView
from flowersweep.study.baselines import STRONGEST, BaselineScore, score_baselines, verdict
from flowersweep.util.text import quantity


def simple_models(study: StudyView, predictions: Predictions | None) -> list[BaselineScore]:
    """Return the baselines of a study next to its best trial; none if they were not fitted."""
    if predictions is None:
        return []
    return score_baselines(study.folder, predictions.holdout, predictions.holdout_labels)


def finding(scores: list[BaselineScore]) -> AuditItem | None:
    """Say whether the best trial is better than a logistic regression on the same features."""
    score = next((score for score in scores if score.name == STRONGEST), None)
    if score is None:
        return None
    title = f"The best trial is {verdict(score.gain)} a {STRONGEST} on the same features"
    text = (
        f"On the held-out half it has {score.gain.value:+.4f} macro F1 "
        f"(95 % interval {score.gain.low:+.4f} to {score.gain.high:+.4f})."
    )
    if score.gain.low > 0:
        return AuditItem("note", title, text)
    return AuditItem("warning", title, f"{text} No gain of the search over it is shown.")


def section(
    study: StudyView, predictions: Predictions | None, scores: list[BaselineScore]
) -> Section:
    """Return the table of baselines, or why there is none."""
    if predictions is None or not scores:
        return Section("baselines", "Baselines", [Text(_absence(study), soft=True)])
    logits, labels = predictions.holdout, predictions.holdout_labels
    classes = logits.shape[1]
    ends = macro_f1_interval(logits.argmax(axis=1), labels, classes)
    best = [accuracy(logits, labels), macro_f1(logits, labels, classes), _between(*ends), None]
    rows = [["best trial", *best]]
    for score in sorted(scores, key=lambda score: -score.macro_f1):
        gain = f"{score.gain.value:+.4f} ({_between(score.gain.low, score.gain.high, '+')})"
        ends = score.interval
        rows.append([score.name, score.accuracy, score.macro_f1, _between(*ends), gain])
    columns = [Column("model", False), Column("accuracy"), Column("macro F1")]
    columns += [Column("95 % interval", False), Column("best trial minus this (95 %)", False)]
    caption = f"The best trial and the simplest models on {quantity(len(labels), 'held-out image')}"
    said = finding(scores)
    parts: list[Part] = [Text(f"{said.title}. {said.text}")] if said else []
    note = (
        "The baselines are fitted on the features and images that the heads train on. The most "
        "frequent class is chance. Differences are of macro F1, on the same images."
    )
    table = Table(caption, columns, rows, best=0)
    return Section("baselines", "Baselines", [*parts, table, Text(note, soft=True)])


def _between(low: float, high: float, sign: str = "") -> str:
    return f"{low:{sign}.4f} to {high:{sign}.4f}"


def _absence(study: StudyView) -> str:
    """Say why a study has no baselines."""
    config = study.started.config
    if config.get("ensemble", {}).get("members"):
        return "An ensemble has no features of its own. The studies of its members have baselines."
    if study.best is None:
        return "No trial is complete yet."
    if config.get("train", {}).get("finetune"):
        return (
            "Baselines are fitted on the features of the frozen backbone, and they were not "
            "computed for this fine-tuned study. train.head_epochs=1 or a sweep with train=frozen "
            "computes them."
        )
    return (
        "No baselines were fitted: the features are not on this machine, several hosts trained, or "
        "the study has not ended. The command of the study fits them."
    )
