"""A chart as a small picture without scripts: what a notebook shows wherever it is opened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

from flowersweep.report.charts.plotting import Chart, Trace
from flowersweep.util.text import number

WIDTH, HEIGHT = 640, 240  # pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 16, 34  # margins
TICKS = 5

Scale = Callable[[float], float]  # a value -> pixels


def sketch(chart: Chart) -> str:
    """Return the points and lines of a chart as SVG; its axes may be linear or logarithmic."""
    traces, layout = chart.figure["data"], chart.figure["layout"]
    xs, ys = (
        [float(value) for trace in traces for value in trace[name] if value is not None]
        for name in ("x", "y")
    )
    if not ys:
        return ""
    logged = layout["yaxis"].get("type") == "log" and min(ys) > 0
    across = _scale(xs, LEFT, WIDTH - RIGHT)
    up = _scale(ys, HEIGHT - BOTTOM, TOP, logged=logged)
    parts = [
        *_axes(xs, ys, across, up, logged=logged),
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 3}">{_title(layout["xaxis"])}</text>',
        f'<text x="{LEFT}" y="{TOP}">{_title(layout["yaxis"])}</text>',
        *(part for trace in traces for part in _drawn(trace, across, up)),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'role="img" aria-label="{escape(chart.label)}" font-family="sans-serif" font-size="11" '
        'fill="gray" style="max-width:100%">'
    )
    return "".join([head, *parts, "</svg>"])


def _title(axis: dict[str, Any]) -> str:
    return escape(axis["title"]["text"])


def _scale(values: Sequence[float], low: float, high: float, *, logged: bool = False) -> Scale:
    """Return a function from values to pixels, with a twentieth of room at both ends."""
    write = math.log10 if logged else float
    first, last = write(min(values)), write(max(values))
    room = (last - first) / 20 or 0.5
    span = last - first + 2 * room
    return lambda value: round(low + (write(value) - first + room) / span * (high - low), 1)


def _axes(
    xs: Sequence[float], ys: Sequence[float], across: Scale, up: Scale, *, logged: bool
) -> Iterator[str]:
    for value in _ticks(min(ys), max(ys), logged=logged):
        at = up(value)
        yield f'<path d="M{LEFT} {at}H{WIDTH - RIGHT}" stroke="gray" stroke-opacity=".25"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{number(value)}</text>'
    first, last = math.floor(min(xs)), math.ceil(max(xs))
    for value in range(first, last + 1, max(1, round((last - first) / TICKS))):
        yield f'<text x="{across(value)}" y="{HEIGHT - 18}" text-anchor="middle">{value}</text>'


def _ticks(low: float, high: float, *, logged: bool = False) -> list[float]:
    if logged:
        return [low * (high / low) ** (n / (TICKS - 1)) for n in range(TICKS)]
    return [low + (high - low) * n / (TICKS - 1) for n in range(TICKS)]


def _drawn(trace: Trace, across: Scale, up: Scale) -> Iterator[str]:
    """Yield the shapes of one trace: a line, a filled area, or points with their texts."""
    points = [(across(float(x)), up(float(y))) for x, y in zip(trace["x"], trace["y"], strict=True)]
    if trace.get("fill"):
        corners = " ".join(f"{x},{y}" for x, y in points)
        yield f'<polygon points="{corners}" fill="{trace["fillcolor"]}"/>'
    elif trace["mode"] == "lines":
        yield f'<path d="{_path(points, trace["line"])}" fill="none" {_stroke(trace["line"])}/>'
    else:
        colour, texts = trace["marker"]["color"], trace.get("text") or [trace["name"]] * len(points)
        size = 6 if trace["name"] == "best" else 3.5
        for (x, y), text in zip(points, texts, strict=True):
            title = escape(str(text).replace("<br>", ", "))
            yield (
                f'<circle cx="{x}" cy="{y}" r="{size}" fill="{colour}"><title>{title}</title>'
                "</circle>"
            )


def _path(points: Sequence[tuple[float, float]], line: dict[str, Any]) -> str:
    steps = line.get("shape") == "hv"
    (x, y), rest = points[0], points[1:]
    return f"M{x} {y}" + "".join(f"H{x}V{y}" if steps else f"L{x} {y}" for x, y in rest)


def _stroke(line: dict[str, Any]) -> str:
    return f'stroke="{line.get("color", "gray")}" stroke-width="{line.get("width", 1)}"'
