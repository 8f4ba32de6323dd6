"""In a browser every chart is drawn, nothing is complained of or loaded, and nothing sticks out on
a phone or on paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowersweep.report import write_report
from tests.report.browser import PROGRAM, Browser
from tests.report.made_up import MadeUp, Play, focal, of_all_kinds, smoothed

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")

CHARTS = "document.querySelectorAll('.chart').length"
DRAWN = (
    "[...document.querySelectorAll('.chart')].filter(each => "
    "each.querySelector('svg.main-svg')).length"
)
OVER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with every chart there is."""
    folder = tmp_path_factory.mktemp("studies")
    more = [
        Play(
            (smoothed if n % 2 else focal)(0.2 + n / 10, 0.001 * (n + 1)),
            1 - n / 40,
            curve=(2, 1),
            skill=1,
        )
        for n in range(20)
    ]
    study = of_all_kinds()
    return write_report([MadeUp([*study.plays, *more]).write(folder)], folder / "page.html")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "dark", "media"),
    [(1280, False, ""), (390, True, ""), (720, False, "print")],
    ids=["desktop", "dark phone", "paper"],
)
def test_every_chart_is_drawn_and_nothing_sticks_out(
    width: int, dark: bool, media: str, browser: Browser, page: Path
) -> None:
    browser.open(page, width=width, dark=dark, media=media)
    if media:
        browser.value("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.problems == []
    assert browser.value(DRAWN) == browser.value(CHARTS) == 13
    assert browser.value(OVER) == 0
    back = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (not dark)


@pytest.mark.slow
def test_a_heading_sorts_its_table(browser: Browser, page: Path) -> None:
    browser.open(page)
    column = (
        "[...document.querySelectorAll('section:nth-of-type(12) tbody tr')].map(row => "
        "row.cells[2].textContent)"
    )
    click = "[...document.querySelectorAll('section:nth-of-type(12) th button')][2].click()"
    browser.value(click)
    up = [float(cell) for cell in browser.value(column) if cell]
    browser.value(click)
    down = browser.value(column)
    assert len(up) > 20
    assert up == sorted(up)
    assert [float(cell) for cell in down if cell] == up[::-1]
    assert down[-1] == ""  # a trial without a value stays last
    assert browser.problems == []


@pytest.mark.slow
def test_what_the_page_would_load_is_refused_and_seen(browser: Browser, page: Path) -> None:
    """The two tests above could not fail if nothing were noticed."""
    changed = page.with_name("changed.html")
    changed.write_text(
        page.read_text().replace(
            "</main>", '<img alt="" src="https://example.invalid/a.png"></main>'
        )
    )
    browser.open(changed)
    assert any("Content Security Policy" in problem for problem in browser.problems)
    browser.problems.clear()
