"""One page that stands alone: style, scripts and figures are inside it, and it loads nothing.

A page is sections of parts, which are plain data. All HTML is in ``templates/``, where Jinja2
escapes every value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flowersweep.report.charts.plotting import Chart
from flowersweep.report.checks.audit import AuditItem
from flowersweep.report.images.parts import Bars, Cards, Link
from flowersweep.report.mistakes import Mistake
from flowersweep.util.output import open_output

TEMPLATES = Path(__file__).parent / "templates"
# The browser itself then refuses whatever would be loaded from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


@dataclass(frozen=True)
class Text:
    """A paragraph; nothing is shown for an empty one."""

    kind: ClassVar[str] = "text"
    text: str
    soft: bool = False  # a remark


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Listing:
    """Text with its line breaks, as settings are written."""

    kind: ClassVar[str] = "listing"
    text: str


@dataclass(frozen=True)
class Command:
    """A command line with a button that copies it."""

    kind: ClassVar[str] = "command"
    text: str


@dataclass(frozen=True)
class Numbers:
    """Boxes of one large number each: name -> number and remark."""

    kind: ClassVar[str] = "numbers"
    boxes: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    number: bool = True


@dataclass(frozen=True)
class Table:
    """A table that its headings sort. Cells may be None; the row numbered ``best`` is set off."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    best: int | None = None
    tall: bool = False  # scrolls in a box of its own
    links: str = ""  # address that the first cell of a row is appended to

    def __post_init__(self) -> None:
        """Refuse a row that the columns do not fit."""
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(
                f"the table {self.caption!r} has a row that is not {len(self.columns)} cells long"
            )


@dataclass(frozen=True)
class AuditList:
    """What is doubtful about a study."""

    kind: ClassVar[str] = "audit"
    items: Sequence[AuditItem]


@dataclass(frozen=True)
class Gallery:
    """Pictures of wrong predictions."""

    kind: ClassVar[str] = "gallery"
    mistakes: Sequence[Mistake]


@dataclass(frozen=True)
class SideBySide:
    """Groups of parts next to one another where there is room."""

    kind: ClassVar[str] = "side_by_side"
    groups: Sequence[Sequence[Part]]


Part = (
    Text
    | Heading
    | Listing
    | Command
    | Link
    | Numbers
    | Table
    | AuditList
    | Gallery
    | Cards
    | Bars
    | SideBySide
    | Chart
)


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading that the navigation leads to."""

    name: str
    title: str
    parts: Sequence[Part]

    @property
    def charts(self) -> list[Chart]:
        """The charts of the section, in the order of the page."""
        return [*_charts(self.parts)]


@dataclass(frozen=True)
class Field:
    """An input of a form."""

    name: str
    label: str
    value: str = ""
    options: Sequence[str] = ()  # a choice; with several, any number of them
    several: bool = False
    chosen: Sequence[str] = ()
    number: bool = False
    lines: int = 0  # of a text; 0: one line


@dataclass(frozen=True)
class Form:
    """Inputs and a button on a page that is served.

    Without an ``action`` it asks for the same page; otherwise it sends JSON there.
    """

    name: str
    label: str
    fields: Sequence[Field]
    button: str
    action: str | None = None
    target: str = ""  # the page that it asks for; empty: the same
    confirm: str = ""  # a question before it is sent
    open: bool = False


@dataclass(frozen=True)
class Live:
    """What a page has in addition when it is served, and not written to a file."""

    nonce: str  # of its scripts
    token: str  # that a form must send
    crumbs: Sequence[tuple[str, str]]  # the pages above, text and address
    state: str = ""  # address of the state that changes; empty: the page stays
    version: str = ""  # of the state that is shown
    forms: Sequence[Form] = ()


def grid(charts: Iterable[Chart]) -> SideBySide:
    """Return charts side by side."""
    return SideBySide([[chart] for chart in charts])


def render(
    title: str,
    introduction: Sequence[Part],
    sections: Sequence[Section],
    *,
    live: Live | None = None,
) -> str:
    """Return the whole page as HTML; plotly.js, 4 MB, is in it only if it has charts.

    A page that is served loads it instead.
    """
    figures = {chart.id: _rounded(chart.figure) for section in sections for chart in section.charts}
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            introduction=introduction,
            sections=sections,
            policy=POLICY,
            live=live,
            live_script=Markup((TEMPLATES / "live.js").read_text(encoding="utf-8")),
            style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
            script=Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),
            plotly=plotly() if figures and live is None else "",
            figures=_embedded(figures),
        )
    )


def write_page(path: Path, text: str) -> Path:
    """Write a page, whole or not at all; only the user can read it in a folder of theirs alone."""
    with open_output(path, private=not path.parent.stat().st_mode & 0o077) as file:
        file.write(text.encode())
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = _score
    return environment


def plotly() -> Markup:
    """Return the source of plotly.js."""
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


def _charts(parts: Iterable[Part]) -> Iterator[Chart]:
    for part in parts:
        if isinstance(part, Chart):
            yield part
        elif isinstance(part, SideBySide):
            for group in part.groups:
                yield from _charts(group)


def _score(value: float) -> str:
    """Return a number with four decimals, or four digits if it is far smaller or larger."""
    return f"{value:.4f}" if 0.01 <= abs(value) < 10 or value == 0 else f"{value:.4g}"


def _rounded(value: Any) -> Any:
    """Round to five digits: more than a screen shows, and a third of the size."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def _embedded(figures: Mapping[str, Any]) -> Markup:
    # Escaped "<": neither an end of the script nor a comment can be in it.
    return Markup(
        json.dumps(figures, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    )
