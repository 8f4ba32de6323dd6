"""One page that stands alone: its style, its script, plotly.js and its figures are inside it, and it loads nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from flowersweep.report.marks import Chart, Figure

HERE = Path(__file__).parent
# the browser itself then refuses whatever would be loaded from elsewhere
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; ``html`` may hold charts, which are given beside it."""

    name: str
    title: str
    html: str
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    number: bool = True


def page(title: str, introduction: str, sections: Sequence[Section]) -> str:
    """Return the whole page as HTML."""
    from plotly.offline import get_plotlyjs

    figures = {chart.name: _rounded(chart.figure) for section in sections for chart in section.charts}
    links = "".join(f'<li><a href="#{s.name}">{escape(s.title)}</a></li>' for s in sections)
    parts = "".join(f'<section aria-labelledby="{s.name}"><h2 id="{s.name}">{escape(s.title)}</h2>{s.html}</section>' for s in sections)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title><style>{(HERE / "page.css").read_text()}</style></head>
<body><a class="skip" href="#content">Skip to the content</a>
<header><h1>{escape(title)}</h1>{introduction}</header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main id="content" tabindex="-1"><noscript><p>The charts need JavaScript; text and tables do not.</p></noscript>{parts}</main>
<script type="application/json" id="figures">{_embedded(figures)}</script>
<script>{get_plotlyjs()}</script>
<script>{(HERE / "page.js").read_text()}</script>
</body></html>
"""


def figure(chart: Chart | None, absent: str = "") -> str:
    """Return the place of a chart, with its name for screen readers; or what is said where there is none."""
    if chart is None:
        return paragraph(absent, "soft")
    height = chart.figure["layout"]["height"]
    place = (
        f'<div class="chart" id="{escape(chart.name)}" role="img" aria-label="{escape(chart.label)}" style="min-height:{height}px"></div>'
    )
    return f"<figure>{place}<figcaption>{escape(chart.note)}</figcaption></figure>"


def grid(charts: Iterable[Chart]) -> str:
    """Return charts side by side where there is room."""
    return beside(*(figure(chart) for chart in charts))


def beside(*parts: str) -> str:
    """Return parts side by side where there is room."""
    return f'<div class="grid">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph; nothing for no text."""
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def numbers(facts: Mapping[str, tuple[str, str]]) -> str:
    """Return boxes of one large number each, with a remark."""
    boxes = (f"<div><dt>{escape(n)}</dt><dd>{escape(v)}<small>{escape(more)}</small></dd></div>" for n, (v, more) in facts.items())
    return f'<dl class="numbers">{"".join(boxes)}</dl>'


def command(name: str, text: str) -> str:
    """Return a command with a button that copies it."""
    return f'<pre id="{name}">{escape(text)}</pre><button class="copy" type="button" data-of="{name}" aria-live="polite">Copy</button>'


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, best: int | None = None, tall: bool = False) -> str:
    """Return a table that its headings sort; the row numbered ``best`` is set off. Cells may be None."""
    heads = "".join(
        f'<th scope="col"{" class=n" if column.number else ""}><button type="button">{escape(column.title)}</button></th>'
        for column in columns
    )
    body = "".join(
        f"<tr{' class=best' if n == best else ''}>{''.join(_cell(*pair) for pair in zip(row, columns, strict=True))}</tr>"
        for n, row in enumerate(rows)
    )
    inner = f"<table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll{" tall" if tall else ""}" role="region" aria-label="{escape(caption)}" tabindex="0">{inner}</div>'


def _cell(value: Any, column: Column) -> str:
    if isinstance(value, float):
        return f'<td class=n data-value="{value:.6g}">{_written(value)}</td>'
    text = "" if value is None else escape(str(value))
    return f"<td class={'n' if column.number else 'wide' if len(text) > 40 else 't'}>{text}</td>"


def _written(value: float) -> str:
    """Four decimals for scores, so that they stand under one another; four digits for what is much smaller or larger."""
    return f"{value:.4f}" if 0.01 <= abs(value) < 10 or value == 0 else f"{value:.4g}"


def _rounded(value: Any) -> Any:
    """Five digits are more than a screen shows, and a third of the size."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def _embedded(figures: Mapping[str, Figure]) -> str:
    # neither an end of the script nor a comment can be in it
    return json.dumps(figures, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
