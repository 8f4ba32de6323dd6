"""Numbers, lengths of time, sizes and tables, as a person reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def number(value: Any) -> str:
    """Write a value in four significant digits; nothing for None."""
    return "" if value is None else f"{value:z.4g}" if isinstance(value, float) else str(value)


def quantity(count: float, noun: str) -> str:
    """Write a count with its noun, whose plural ends with s: ``1 image``, ``2 images``."""
    shown = f"{count:g}" if isinstance(count, float) else count
    return f"{shown} {noun if count == 1 else f'{noun}s'}"


def spreadsheet_cell(value: Any) -> Any:
    """Return a value for a CSV file: an apostrophe stands before text that a spreadsheet would
    take for a formula. Numbers, and words that begin with a sign, stay.
    """
    if isinstance(value, str) and re.match(r"\s*([=@\t\r]|[-+](?![\w.-]*$))", value):
        return f"'{value}"
    return value


def duration(seconds: float) -> str:
    """Write a length of time in the largest unit that fits."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.3g} min"
    hours = seconds / 3600
    return f"{hours:.3g} h" if hours < 48 else f"{hours / 24:.3g} days"


def bytes_text(count: float) -> str:
    """Write bytes in the largest unit that fits."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align rows of cells in columns; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
