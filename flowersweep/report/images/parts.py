"""Parts of a page that show images and how many there are."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Picture:
    """A JPEG, and what a screen reader says of it."""

    jpeg: bytes
    alt: str

    @property
    def base64(self) -> str:
        return base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True)
class Card:
    """Pictures next to one another, and below them a title, a doubt and a remark."""

    pictures: Sequence[Picture]
    title: str
    doubt: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Cards:
    """Cards of one width, as many in a row as fit."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]
    width: Literal["narrow", "wide"] = "narrow"


@dataclass(frozen=True)
class Bar:
    """A column of a chart: counts, one on top of the other."""

    name: str
    counts: Sequence[int]

    @property
    def total(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Bars:
    """A chart of counts that needs no script; ``series`` names what lies on top of the other."""

    kind: ClassVar[str] = "bars"
    label: str  # for a screen reader
    series: Sequence[str]
    bars: Sequence[Bar]
    ends: tuple[str, str]  # what stands below the first and the last bar
    named: bool = False  # whether each bar has its name below it, in place of the ends

    @property
    def top(self) -> int:
        """The largest total; 1 where there is nothing."""
        return max((bar.total for bar in self.bars), default=1) or 1


@dataclass(frozen=True)
class Link:
    """A paragraph that begins with a link to another page."""

    kind: ClassVar[str] = "link"
    text: str
    address: str
    remark: str = ""
