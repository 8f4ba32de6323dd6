"""The page stands alone: it has every part, loads nothing, can be read without a mouse, and shows
nothing it must not.
"""

from __future__ import annotations

import errno
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flowersweep.errors import StudyError
from flowersweep.report import write_report
from flowersweep.report.study_view import LEFT_OUT
from tests.report.made_up import MadeUp, Play, focal, of_all_kinds, smoothed

SECTIONS = [
    "best",
    "caveats",
    "baselines",
    "history",
    "importance",
    "slices",
    "parallel",
    "contour",
    "training",
    "evaluation",
    "mistakes",
    "trials",
    "provenance",
]


class Parsed(HTMLParser):
    """The tags of a page with their attributes; complains of tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return write_report([folder], folder / "report.html").read_text()


def test_every_section_is_there_and_can_be_reached(text: str) -> None:
    page = Parsed(text)
    assert [each["id"] for each in page.all("h2")] == SECTIONS
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [each["href"] for each in page.all("a")]
    assert links[0] == "#content"  # past the navigation, first of all
    assert links[1:] == [f"#{name}" for name in SECTIONS]
    assert {link[1:] for link in links} <= ids


def test_nothing_is_loaded_from_anywhere(text: str) -> None:
    page = Parsed(text)
    assert not [
        attributes for _, attributes in page.tags if {"src", "srcset", "action"} & attributes.keys()
    ]
    assert page.all("link") == []
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    assert "default-src 'none'" in next(
        each["content"] for each in page.all("meta") if "http-equiv" in each
    )


def test_every_chart_has_a_name_and_its_figure(text: str) -> None:
    charts = [each for each in Parsed(text).all("div") if each.get("class") == "chart"]
    figures = json.loads(re.findall(r'id="figures">(.*?)</script>', text, re.DOTALL)[0])
    assert [each["id"] for each in charts] == list(figures)
    assert all(each["role"] == "img" and each["aria-label"] for each in charts)


def test_tables_can_be_scrolled_with_the_keyboard_and_have_captions(text: str) -> None:
    page = Parsed(text)
    boxes = [each for each in page.all("div") if "scroll" in each.get("class", "").split()]
    assert len(boxes) == len(page.all("table")) == len(page.all("caption")) > 3
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in boxes)


def test_names_and_reasons_are_text_and_secrets_are_masked(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    plays = [
        Play(smoothed(0.1, 0.01), 0.3, skill=1.0),
        Play({**smoothed(0.2, 0.01), "loss": evil}, None, "failed", reason=f"{evil} token=abc123"),
    ]
    command = "python -m flowersweep +sweep=smoothing tracking.uri=http://me:hunter2@host"
    folder = MadeUp(plays, classes=(evil, "b", "c", "d"), command=command).write(tmp_path)
    text = write_report([folder], tmp_path / "page.html").read_text()
    assert evil not in text
    assert "hunter2" not in text
    assert "abc123" not in text
    assert [each["id"] for each in Parsed(text).all("h2")] == SECTIONS


def test_extra_images_that_are_not_trained_on_are_listed(tmp_path: Path) -> None:
    folder = of_all_kinds().write(tmp_path)
    heading = "source,reason,label,image,twin,images"
    row = "more,near-duplicate of test,rose,rose/{}.jpg,lily/<b>.jpg,1"
    lines = [heading, *(row.format(n) for n in range(502))]
    (folder / LEFT_OUT).write_text("\n".join(lines))
    text = write_report([folder], tmp_path / "page.html").read_text()
    assert "near-duplicate of test" in text
    assert "rose/499.jpg" in text
    assert "lily/&lt;b&gt;.jpg" in text
    assert "rose/500.jpg" not in text
    assert "2 more are in left_out.csv." in text


def test_a_thousand_trials_stay_below_eight_megabytes(tmp_path: Path) -> None:
    plays = [
        Play(
            (smoothed if n % 2 else focal)(0.5, 0.01),
            0.3 + n / 999,
            "pruned" if n % 3 else "complete",
            curve=[0.5 + n / 999] * 10,
        )
        for n in range(1000)
    ]
    path = write_report([MadeUp(plays).write(tmp_path)], tmp_path / "page.html")
    assert path.stat().st_size < 8_000_000
    assert len(Parsed(path.read_text()).all("tr")) > 1000


def test_what_a_broken_write_leaves_is_the_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = of_all_kinds().write(tmp_path)
    path = tmp_path / "page.html"
    path.write_text("old")
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full"))
    )
    with pytest.raises(StudyError, match="disk full"):
        write_report([folder], path)
    assert path.read_text() == "old"
