"""The pages that are served, over real HTTP: what they show, and who may open and ask what."""

from __future__ import annotations

import csv
import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from flowersweep.config.schema import Config
from flowersweep.dashboard.server import served
from flowersweep.report.charts.pareto import hypervolume
from flowersweep.report.checks.interactions import interactions
from flowersweep.report.study_view import load_study
from flowersweep.report.trials.savings import savings
from flowersweep.study.journal import Journal
from flowersweep.study.notes import LARGEST
from flowersweep.study.requests import Request, waiting_requests
from tests.report.made_up import MadeUp, Play, focal, of_all_kinds, smoothed

TOKEN = "secret-token"
EVIL = "<script>alert(1)</script>"


@dataclass
class Client:
    """A browser that has opened the address with its token."""

    port: int
    folder: Path

    def ask(
        self, method: str, path: str, content: Any = None, **headers: str
    ) -> tuple[int, str, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        given = {
            "Host": f"127.0.0.1:{self.port}",
            "Cookie": f"flowersweep-{self.port}={TOKEN}",
            "X-Token": TOKEN,
            "Content-Type": "application/json",
        }
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = None if content is None else json.dumps(content)
        connection.request(method, path, body, {k: v for k, v in given.items() if v})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text, answer.headers

    def get(self, path: str) -> str:
        status, text, _ = self.ask("GET", path)
        assert status == 200, text
        return text

    @property
    def requests(self) -> list[Request | None]:
        return [request for _, request in waiting_requests(self.folder)]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dir = tmp_path_factory.mktemp("served")
    more = [
        Play(
            (smoothed if n % 2 else focal)(0.2 + n / 10, 0.001 * (n + 1)),
            1 - n / 40,
            curve=(2, 1),
            skill=1 + n / 10,
        )
        for n in range(20)
    ]
    MadeUp([*of_all_kinds().plays, *more]).write(dir / "studies")
    MadeUp(of_all_kinds().plays, name=f"odd {EVIL.replace('/', '')}").write(dir / "studies")
    return dir


@pytest.fixture(scope="module")
def server(studies: Path) -> Iterator[Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with served(replace(Config(), dir=str(studies), port=port), TOKEN):
        yield Client(port, studies / "studies" / "made_up")


@pytest.fixture
def client(server: Client) -> Iterator[Client]:
    yield server
    for path, _ in waiting_requests(server.folder):
        path.unlink()


def test_the_studies_one_of_them_a_trial_and_two_of_them_have_pages(client):
    assert 'href="/studies/made_up"' in client.get("/")
    page = client.get("/studies/made_up")
    for title in ("Now", "Checks", "Parallel coordinates", "Contour", "Trials"):
        assert f">{title}</h2>" in page
    assert 'href="/studies/made_up/trials/7"' in page
    assert "rank" in client.get("/studies/made_up/trials/7")
    pair = client.get("/studies/made_up/pair?a=7&b=25")
    assert "Where the two trials differ" in pair
    assert "Right in trial 25, wrong in trial 7" in pair
    assert "plotly" in client.get("/plotly.js")


def test_one_filter_is_over_all_charts_and_the_table(client):
    page = client.get("/studies/made_up?state=pruned")
    assert "The filter shows 1 of 26 trials." in page
    branch = client.get("/studies/made_up?loss=focal&gamma.min=1&gamma.max=1.55")
    assert "The filter shows 4 of 26 trials." in branch
    assert "No trial is shown." in client.get("/studies/made_up?objective.max=-5")
    assert "Filter (active)" not in client.get("/studies/made_up?nothing=5&gamma.min=x")


def test_the_table_comes_as_csv(client):
    rows = [*csv.DictReader(client.get("/studies/made_up/trials.csv").splitlines())]
    assert len(rows) == 26
    assert rows[0]["state"] == "complete"


def test_the_state_says_who_runs_the_study_and_changes_with_its_journal(client):
    before = json.loads(client.get("/studies/made_up/state"))
    assert {n: v for n, v, _ in before["now"]}["Study"] == "not running"
    with Journal(client.folder / "journal.jsonl"):
        now = json.loads(client.get("/studies/made_up/state"))
    assert {n: v for n, v, _ in now["now"]}["Study"] == "running"
    assert {"Processor", "Memory", "In flight"} <= {name for name, *_ in now["now"]}
    assert before["version"] != now["version"]


def test_notes_are_kept_and_shown_as_text(client):
    text = f"try lower rates {EVIL}"
    status, said, _ = client.ask("POST", "/studies/made_up/notes", {"text": text})
    assert (status, json.loads(said)["message"]) == (200, "The notes are kept.")
    assert (client.folder / "notes.txt").read_text() == text
    page = client.get("/studies/made_up")
    assert EVIL not in page
    assert "try lower rates &lt;script&gt;" in page
    for size in (LARGEST + 1, 3 * LARGEST):
        status, _, _ = client.ask("POST", "/studies/made_up/notes", {"text": "x" * size})
        assert status in (400, 413)
    assert (client.folder / "notes.txt").read_text() == text


def test_a_trial_and_a_study_are_stopped_only_while_they_run(client):
    for path in ("stop", "trials/5/stop"):
        assert client.ask("POST", f"/studies/made_up/{path}")[0] == 400
    with Journal(client.folder / "journal.jsonl"):
        assert client.ask("POST", "/studies/made_up/trials/0/stop")[0] == 400  # it has ended
        assert client.ask("POST", "/studies/made_up/trials/5/stop")[0] == 200
        assert client.ask("POST", "/studies/made_up/stop")[0] == 200
    assert client.requests == [Request("stop_trial", trial=5), Request("stop_study")]


def test_a_point_outside_the_space_is_refused(client):
    point = {"loss": "focal", "gamma": "2", "learning_rate": "0.01"}
    for wrong in ({"gamma": "99"}, {"gamma": "nan"}, {"loss": "hinge"}, {"other": "1"}):
        status, said, _ = client.ask("POST", "/studies/made_up/add", point | wrong)
        assert status == 400, said
    assert client.requests == []
    assert client.ask("POST", "/studies/made_up/add", point)[0] == 200
    params = {"loss": "focal", "gamma": 2.0, "learning_rate": 0.01}
    assert client.requests == [Request("add_trial", params=params)]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Cookie": ""}, 403),
        ({"Cookie": "flowersweep-5002=guess"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 200),
    ],
)
def test_nobody_else_may_open_a_page(headers, status, client):
    assert client.ask("GET", "/", **headers)[0] == status


@pytest.mark.parametrize(
    "headers", [{"X_Token": ""}, {"X_Token": "guess"}, {"Origin": "http://127.0.0.1:1"}]
)
def test_no_other_site_may_change_anything(headers, client):
    client.ask("POST", "/studies/made_up/notes", {"text": "mine"})
    status, _, _ = client.ask("POST", "/studies/made_up/notes", {"text": "theirs"}, **headers)
    assert status == 403
    assert (client.folder / "notes.txt").read_text() == "mine"


def test_the_token_leaves_the_address_and_no_script_from_elsewhere_runs(client):
    status, _, headers = client.ask("GET", f"/?token={TOKEN}", Cookie="")
    assert (status, headers["Location"]) == (302, "/")
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "SameSite=Strict" in headers["Set-Cookie"]
    _, page, headers = client.ask("GET", "/")
    nonce = headers["Content-Security-Policy"].partition("'nonce-")[2].partition("'")[0]
    assert page.count("<script") - 1 == page.count(f'<script nonce="{nonce}"')  # one is data
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/studies/..",
        "/studies/%2e%2e",
        "/studies/..%2f..%2fetc%2fpasswd",
        "/studies/made_up%2f..%2fodd",
        "/studies/made_up/trials/999",
        "/studies/made_up/trials/-1",
        "/studies/made_up/pair?a=1&b=x",
        "/studies/made_up%00",
        "//evil.example/studies",
    ],
)
def test_a_path_leads_nowhere_but_to_a_study(path, client):
    status, text, headers = client.ask("GET", path)
    assert status in (400, 404) or headers.get("Location", "").startswith("/"), text
    assert "root:" not in text


def test_a_name_with_html_in_it_is_text(client):
    page = client.get("/")
    assert "<script>alert(1)<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;script&gt;" in page
    assert "<script>alert(1)" not in client.get("/studies/odd%20%3Cscript%3Ealert(1)%3Cscript%3E")


def test_the_front_covers_a_share_of_the_rectangle():
    names = ["tune/nll", "time"]
    assert hypervolume([(0, 1), (1, 0)], names) == 0
    assert hypervolume([(0, 1), (0.5, 0.5), (1, 0)], names) == 0.25
    assert hypervolume([(0, 0), (1, 1)], names) == 1
    assert hypervolume([(0, 1), (1, 0)], ["tune/macro_f1", "time"]) == 1


def test_pruned_epochs_are_counted_as_saved(tmp_path):
    plays = [
        Play(focal(1, 0.01), 0.5, curve=(3, 2, 1, 0.5)),
        Play(focal(2, 0.01), 3, "pruned", curve=(3,)),
    ]
    boxes = savings(load_study(MadeUp(plays).write(tmp_path)))
    assert boxes["Saved by pruning"][1] == "3 epochs of 1 trial"


def test_two_parameters_that_need_each_other_are_the_strongest_interaction(tmp_path):
    plays = []
    for n in range(48):
        gamma, rate = (0.6, 2.0, 4.8)[n % 3], (0.001, 0.005, 0.04)[n // 3 % 3]
        plays.append(
            Play(focal(gamma, rate), 1.0 if (gamma > 1) == (rate > 0.002) else 2.0 + n / 99)
        )
    [found] = interactions(load_study(MadeUp(plays).write(tmp_path)))
    assert {found.first, found.second} == {"gamma", "learning_rate"}
    assert found.share > 0.2
    assert found.p < 0.05
