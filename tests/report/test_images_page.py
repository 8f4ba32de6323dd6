"""In a browser the page about images shows every picture, and nothing sticks out on a phone or on
paper.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowersweep.data.duplicates import ImageLocation
from flowersweep.report.images.parts import Bar, Bars, Card, Cards, Link, Picture
from flowersweep.report.images.view import PAIRS, Pair, shown_pairs
from flowersweep.report.page import Section, render, write_page
from tests.report.browser import PROGRAM, Browser
from tests.report.test_page import Parsed

OVER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SHOWN = "[...document.images].filter(each => each.complete && each.naturalWidth > 0).length"
LONG = "Acherontia-atropos_" * 6


def picture(width: int, height: int, alt: str) -> Picture:
    out = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(out, "JPEG")
    return Picture(out.getvalue(), alt)


def page(folder: Path, classes: int) -> Path:
    bars = [Bar(f"{LONG}{n}", [9 + n, 3, 0]) for n in range(classes)]
    cards = [
        Card([picture(128, 90, LONG), picture(40, 128, "b")], LONG, f"rather {LONG}?", "a\nb"),
        Card([picture(256, 192, "sheet")], "rose"),
    ]
    parts = [
        Bars("counts", ["train", "tune", "test"], bars, (LONG, "last"), named=classes < 5),
        Cards(cards, "wide"),
        Cards(cards * 4),
        Link("The images", "../../data-1.html", ": to look at."),
    ]
    return write_page(folder / "page.html", render("Images", [], [Section("all", "All", parts)]))


def test_names_are_text_in_every_part(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    parts = [
        Bars(evil, [evil], [Bar(evil, [1])], (evil, evil)),
        Bars(evil, [evil], [Bar(evil, [0])], (evil, evil), named=True),
        Cards([Card([picture(9, 9, evil)], evil, evil, evil)]),
        Link(evil, evil, evil),
    ]
    text = render(evil, [], [Section("all", evil, parts)])
    assert evil not in text
    assert len(Parsed(text).all("script")) == 2  # the page's own


def test_a_column_is_as_high_as_its_counts() -> None:
    bars = Bars("counts", ["a", "b"], [Bar("x", [3, 4]), Bar("y", [0, 2])], ("x", "y"))
    columns = Parsed(render("t", [], [Section("s", "S", [bars])])).all("rect")
    assert [(each["class"], each["y"], each["height"]) for each in columns] == [
        ("s0", "4", "3"),
        ("s1", "0", "4"),
        ("s1", "5", "2"),
    ]


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
def test_every_picture_is_shown_and_nothing_sticks_out(tmp_path: Path) -> None:
    with Browser(tmp_path / "browser") as browser:
        for classes in (2, 300):
            for width, dark, media in ((1280, False, ""), (390, True, ""), (720, False, "print")):
                browser.open(page(tmp_path, classes), width=width, dark=dark, media=media)
                assert browser.value(SHOWN) == browser.value("document.images.length") == 15
                assert browser.value(OVER) == 0
                colours = "document.querySelector('rect'), document.querySelector('.key .s0')"
                colours = f"[{colours}].map(each => getComputedStyle(each).fill)"
                assert browser.value(colours)[0] == "rgb(43, 123, 214)"
        assert browser.problems == []


def test_of_many_pairs_one_image_does_not_fill_the_page() -> None:
    def pair(first: int, second: int) -> Pair:
        return Pair(ImageLocation("train", first), ImageLocation("train", second), (0, 0))

    few = [pair(0, n) for n in range(1, 40)]
    assert shown_pairs(few) == few
    many = [*(pair(0, n) for n in range(1, 100)), *(pair(200 + n, 400 + n) for n in range(80))]
    shown = shown_pairs(many)
    assert shown[:3] == [pair(0, 1), pair(0, 2), pair(200, 400)]
    assert len(shown) == PAIRS
