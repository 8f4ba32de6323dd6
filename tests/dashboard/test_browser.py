"""In a browser a served study is followed and worked on by keyboard alone."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from flowersweep.config.schema import Config
from flowersweep.dashboard.server import served
from flowersweep.study.journal import Journal
from flowersweep.study.requests import Request, waiting_requests
from tests.events import append
from tests.report.browser import PATIENCE, PROGRAM, Browser
from tests.report.made_up import MadeUp, of_all_kinds
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")

OVER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
DRAWN = "document.readyState === 'complete' && document.body.dataset.drawn || ''"
NOTES = "document.querySelector('#form-notes output').textContent"
ROWS = "document.querySelectorAll('section[aria-labelledby=trials] tbody tr').length"


def press(browser: Browser, *keys: str) -> None:
    """Press keys one after the other: Tab, Enter, or text."""
    codes = {"Tab": 9, "Enter": 13}
    for key in keys:
        if key not in codes:
            browser.call("Input.insertText", text=key)
            continue
        event = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        browser.call("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        browser.call("Input.dispatchKeyEvent", type="keyUp", **event)


def tab_to(browser: Browser, selector: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(80):
        press(browser, "Tab")
        if browser.value(f"document.activeElement.matches({selector!r})"):
            return
    raise AssertionError(f"Tab does not lead to {selector}")


@pytest.mark.slow
def test_by_keyboard_a_study_is_opened_followed_annotated_and_stopped(tmp_path: Path) -> None:
    folder = MadeUp(of_all_kinds().plays).write(tmp_path / "studies")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = replace(Config(), dir=str(tmp_path), port=port)
    with (
        served(config) as (address, _),
        Browser(tmp_path / "browser") as browser,
        Journal(folder / "journal.jsonl") as journal,
    ):
        browser.open(address)
        assert browser.value("location.search") == ""  # no token in it
        tab_to(browser, "td a")
        press(browser, "Enter")
        title = "document.title === 'Study made_up' && "
        wait_for(lambda: browser.value(f"{title} ({DRAWN}) || ''"), PATIENCE)

        tab_to(browser, "details.form:has(#form-notes) summary")
        press(browser, "Enter", "Tab", "remember <b>this</b>", "Tab", "Enter")
        wait_for(lambda: browser.value(NOTES) == "The notes are kept.", PATIENCE)
        assert (folder / "notes.txt").read_text() == "remember <b>this</b>"

        browser.value("void (window.confirm = () => true)")
        tab_to(browser, "details.form:has(#form-stop) summary")
        press(browser, "Enter", "Tab", "Enter")
        wait_for(lambda: [*waiting_requests(folder)], PATIENCE)
        assert [request for _, request in waiting_requests(folder)] == [Request("stop_study")]

        before = browser.value(ROWS)
        append(journal, "trial_asked", trial=before, params={"loss": "focal", "gamma": 1.0})
        wait_for(lambda: browser.value(ROWS) == before + 1, PATIENCE)
        own = f"loads http://127.0.0.1:{port}"
        assert [p for p in browser.problems if not p.startswith(own)] == []
        for width, dark in ((1280, True), (390, False)):
            browser.open(f"http://127.0.0.1:{port}/studies/made_up", width=width, dark=dark)
            assert browser.value(OVER) == 0
