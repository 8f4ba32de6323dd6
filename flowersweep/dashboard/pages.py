"""The pages that are served: the studies, one study, one trial, two trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from optuna.distributions import CategoricalDistribution

from flowersweep.dashboard.filters import Filter, filter_form, filtered
from flowersweep.dashboard.live import now_of
from flowersweep.errors import StudyError
from flowersweep.report import study_page
from flowersweep.report.charts.pareto import pareto
from flowersweep.report.images.parts import Link
from flowersweep.report.page import (
    Column,
    Field,
    Form,
    Numbers,
    Part,
    Section,
    Table,
    Text,
)
from flowersweep.report.status import status
from flowersweep.report.study_view import StudyView, load_study
from flowersweep.report.summary import StudySummary, summarise
from flowersweep.report.trials.savings import savings
from flowersweep.space.space import Parameter
from flowersweep.study.notes import read_notes
from flowersweep.util.text import duration

Page = tuple[str, list[Part], list[Section], list[Form]]  # title, introduction, sections, forms


def study_address(name: str) -> str:
    """Return the address of a study's page."""
    return f"/studies/{quote(name, safe='')}"


def list_page(folders: Sequence[Path]) -> Page:
    """Return the list of all studies."""
    columns = [Column("study", False), Column("now", False), Column("trials", False)]
    columns += [Column("best"), Column("objective", False), Column("left", False)]
    rows, damaged = [], []
    for folder in folders:
        try:
            now = status(folder)
        except StudyError as error:
            damaged.append(Text(str(error), soft=True))
            continue
        best = now.best.value if now.best else None
        left = duration(60 * now.left) if now.left else ""
        running = "running" if now.holder else "not running"
        rows.append([now.name, running, now.counts, best, now.objective, left])
    table = Table("Studies", columns, rows, links="/studies/")
    nothing = Text("There are no studies yet. Begin one: python -m flowersweep +sweep=smoothing")
    parts: list[Part] = [table if rows else nothing, *damaged]
    return "Studies", [], [Section("studies", "Studies", parts)], []


def study_page_of(folder: Path, chosen: Filter) -> Page:
    """Return the page of one study, with the trials that the filter shows."""
    whole = load_study(folder)
    size = (folder / "journal.jsonl").stat().st_size
    summary = _summary(folder, size, _Key(chosen))
    address = study_address(folder.name)
    shown = summary.study
    introduction = [
        part
        for part in study_page.introduction(summary)
        if not (isinstance(part, Text) and part.soft)
    ]
    if chosen:
        count = f"The filter shows {len(shown.records)} of {len(whole.records)} trials."
        introduction = [Text(count), *introduction]
    boxes = savings(whole)
    now: list[Part] = [Numbers(now_of(status(folder)))]
    sections = [
        Section("now", "Now", [*now, *([Numbers(boxes)] if boxes else [])]),
        *(_with_links(section, address) for section in _with_front(summary)),
    ]
    csv = Link("All trials as CSV", f"{address}/trials.csv", "")
    sections[-1] = replace(sections[-1], parts=[*sections[-1].parts, csv])
    return f"Study {folder.name}", introduction, sections, _forms(whole, folder, chosen)


class _Key:
    """A filter that a cache can hold."""

    def __init__(self, chosen: Filter) -> None:
        self.chosen = chosen
        self._text = repr(
            (sorted(chosen.states), sorted(chosen.choices.items()), sorted(chosen.ranges.items()))
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@lru_cache(maxsize=8)
def _summary(folder: Path, size: int, key: _Key) -> StudySummary:
    return summarise(filtered(load_study(folder), key.chosen), draw=False)


def _with_front(summary: StudySummary) -> list[Section]:
    """Return the sections of the written page, and the Pareto front if there are objectives."""
    if not summary.study.records:
        return [Section("trials", "Trials", [Text("No trial is shown.")])]
    sections = study_page.sections(summary)
    chart = pareto(summary.study)
    if chart is None:
        return sections
    at = next(n for n, section in enumerate(sections) if section.name == "history") + 1
    return [*sections[:at], Section("pareto", "Pareto front", [chart]), *sections[at:]]


def _with_links(section: Section, address: str) -> Section:
    if section.name != "trials":
        return section
    parts = [
        replace(part, links=f"{address}/trials/") if isinstance(part, Table) else part
        for part in section.parts
    ]
    return replace(section, parts=parts)


def _forms(study: StudyView, folder: Path, chosen: Filter) -> list[Form]:
    """Return what can be done on the page of a study."""
    address = study_address(folder.name)
    running = status(folder).holder is not None
    notes = Field("text", "Notes about this study", read_notes(folder), lines=5)
    two = [Field(name, f"Trial {name}", number=True) for name in ("a", "b")]
    forms = [
        filter_form(study, chosen),
        Form("compare", "Compare two trials", two, "Compare", target=f"{address}/pair"),
        Form("notes", "Notes", [notes], "Keep the notes", action=f"{address}/notes"),
    ]
    if study.parameters:
        fields = [_point_field(study, p) for p in study.parameters]
        label = "Add a trial by hand"
        forms.append(Form("add", label, fields, "Try it next", action=f"{address}/add"))
    if running:
        stop = "Stop the study after the trials in flight"
        forms.append(
            Form("stop", stop, [], "Stop the study", action=f"{address}/stop", confirm=f"{stop}?")
        )
    return forms


def _point_field(study: StudyView, parameter: Parameter) -> Field:
    """Return the input of a parameter, with its value in the best trial."""
    known = study.best.params.get(parameter.name) if study.best else None
    value, ranged = "" if known is None else str(known), parameter.distribution
    if isinstance(ranged, CategoricalDistribution):
        return Field(parameter.name, parameter.name, value, ["", *map(str, ranged.choices)])
    return Field(parameter.name, parameter.name, value, number=True)
