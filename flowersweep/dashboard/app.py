"""The server of the pages: addresses, and who may open them.

A page needs the token: once in its address, then in a cookie of this server. What changes something
needs it in a header as well, which no other site can send. The Host is checked against DNS
rebinding, the Origin against other sites.
"""

from __future__ import annotations

import hmac
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, g, jsonify, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as Answer

from flowersweep.config.schema import Config
from flowersweep.dashboard import actions, live, pages
from flowersweep.dashboard.filters import read_filter
from flowersweep.errors import FlowersweepError, StudyError
from flowersweep.report.page import Field, Form, Live, plotly, render
from flowersweep.report.study_view import StudyView, load_study
from flowersweep.report.trial_table import written_trials
from flowersweep.report.trials import pair_page, trial_page
from flowersweep.study.journal import lock_holder
from flowersweep.study.records import TrialRecord
from flowersweep.tracking.masking import masked_text
from flowersweep.workflows.studies import folder_of_study, study_names

LARGEST = 200_000  # bytes of a request
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


def make_app(config: Config, token: str) -> Flask:
    """Return the server's application.

    Args:
        config: Which studies it shows, and at which host and port.
        token: Whoever has it may open the pages.
    """
    app = Flask(__name__, static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST
    _guard(app, config, token)
    _serve_pages(app, config, token)
    _serve_actions(app, config)
    return app


def _guard(app: Flask, config: Config, token: str) -> None:
    """Refuse what comes from elsewhere, and name what a browser may do with a page."""
    cookie = f"flowersweep-{config.port}"
    hosts = {f"{name}:{config.port}" for name in _names(config.host)}

    @app.before_request
    def check() -> Answer | None:
        g.nonce = secrets.token_urlsafe(16)
        if request.headers.get("Host", "") not in hosts:
            abort(Response("another Host than this server's", 403))
        if (origin := request.headers.get("Origin")) and origin not in {
            f"http://{h}" for h in hosts
        }:
            abort(Response("another site may not ask", 403))
        given = request.args.get("token")
        if given is not None and request.method == "GET" and _same(given, token):
            answer = redirect(request.path)
            answer.set_cookie(cookie, token, httponly=True, samesite="Strict")
            return answer
        if not _same(request.cookies.get(cookie, ""), token):
            abort(Response("open the address with its token, which the command printed", 403))
        if request.method != "GET" and not _same(request.headers.get("X-Token", ""), token):
            abort(Response("the token is missing", 403))
        return None

    @app.after_request
    def protect(answer: Response) -> Response:
        answer.headers["Content-Security-Policy"] = POLICY.format(nonce=g.nonce)
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "same-origin"
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    @app.errorhandler(FlowersweepError)
    def refuse(error: FlowersweepError) -> tuple[Answer, int]:
        said = masked_text(str(error))
        if request.method == "GET":
            return Response(said, mimetype="text/plain"), 404
        return jsonify(message=said[:1].upper() + said[1:]), 400

    @app.errorhandler(HTTPException)
    def fail(error: HTTPException) -> tuple[Answer, int] | Answer:
        if isinstance(error.response, Answer):
            return error.response
        said = error.name
        if request.method == "GET":
            return Response(said, mimetype="text/plain"), error.code or 500
        return jsonify(message=said), error.code or 500


def _names(host: str) -> set[str]:
    """Return the names by which this server may be called."""
    own = {"127.0.0.1", "localhost"}
    if host in own:
        return own
    return {host, socket.gethostname(), socket.getfqdn()} | own


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def _serve_pages(app: Flask, config: Config, token: str) -> None:
    def shown(
        make: Callable[[], pages.Page],
        crumbs: list[tuple[str, str]],
        state: str = "",
        version: Callable[[], str] = str,
    ) -> str:
        before = version()  # what changes while the page is made is found by the next look
        title, introduction, sections, forms = make()
        extras = Live(g.nonce, token, crumbs, state, before, forms)
        return render(title, introduction, sections, live=extras)

    def sizes() -> str:
        return str([live.version_of(_folder(config, name)) for name in study_names(config)])

    @app.get("/")
    def studies() -> str:
        folders = [_folder(config, name) for name in study_names(config)]
        return shown(lambda: pages.list_page(folders), [], "/state", sizes)

    @app.get("/state")
    def state() -> Answer:
        return jsonify(version=sizes(), now=[])

    @app.get("/studies/<name>")
    def study(name: str) -> str:
        folder = _folder(config, name)
        chosen = read_filter(load_study(folder), request.args.to_dict(flat=False))
        return shown(
            lambda: pages.study_page_of(folder, chosen),
            [("Studies", "/")],
            f"{pages.study_address(name)}/state",
            lambda: live.version_of(folder),
        )

    @app.get("/studies/<name>/state")
    def state_of(name: str) -> Answer:
        return jsonify(live.state_of(_folder(config, name)))

    @app.get("/studies/<name>/trials.csv")
    def csv(name: str) -> Answer:
        table = written_trials(load_study(_folder(config, name)), "csv")
        file = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
        named = {"Content-Disposition": f'attachment; filename="{file}.csv"'}
        return Response(table + "\n", mimetype="text/csv", headers=named)

    @app.get("/studies/<name>/trials/<int:number>")
    def trial(name: str, number: int) -> str:
        folder = _folder(config, name)
        return shown(
            lambda: _trial_page(load_study(folder), number),
            _crumbs(name),
            f"{pages.study_address(name)}/state",
            lambda: live.version_of(folder),
        )

    @app.get("/studies/<name>/pair")
    def pair(name: str) -> str:
        view = load_study(_folder(config, name))
        numbers = [request.args.get(key, type=int) for key in ("a", "b")]
        both = [_trial(view, -1 if n is None else n) for n in numbers]
        named = config.data.dir if request.args.get("pictures") == "1" else None
        sections = pair_page.sections(
            view, *both, named=named, draw=request.args.get("pictures") == "1"
        )
        title = f"Trials {both[0].number} and {both[1].number}"
        return shown(lambda: (title, [], sections, []), _crumbs(name))

    @app.get("/plotly.js")
    def script() -> Answer:
        lasting = {"Cache-Control": "private, max-age=86400"}
        return Response(str(plotly()), mimetype="text/javascript", headers=lasting)


def _serve_actions(app: Flask, config: Config) -> None:
    def answered(act: Callable[[], str]) -> Answer:
        return jsonify(message=act())

    @app.post("/studies/<name>/notes")
    def notes(name: str) -> Answer:
        return answered(lambda: actions.keep_notes(_folder(config, name), _fields()))

    @app.post("/studies/<name>/stop")
    def stop(name: str) -> Answer:
        return answered(lambda: actions.stop_study(_folder(config, name)))

    @app.post("/studies/<name>/add")
    def add(name: str) -> Answer:
        return answered(lambda: actions.add_trial(_folder(config, name), _fields()))

    @app.post("/studies/<name>/trials/<int:number>/stop")
    def stop_trial(name: str, number: int) -> Answer:
        return answered(lambda: actions.stop_trial(_folder(config, name), number))


def _fields() -> Mapping[str, Any]:
    content = request.get_json()
    if not isinstance(content, dict):
        raise StudyError("the request is no set of fields")
    return content


def _folder(config: Config, name: str) -> Path:
    """Return the folder of a study; a name that is none is refused, whatever it holds."""
    return folder_of_study(config, name)


def _trial(study: StudyView, number: int) -> TrialRecord:
    if not 0 <= number < len(study.records):
        raise StudyError(f"the study {study.name} has no such trial")
    return study.records[number]


def _trial_page(study: StudyView, number: int) -> pages.Page:
    """Return the page of a trial, which can be stopped while it runs."""
    record, forms = _trial(study, number), []
    if record.ended is None and lock_holder(study.folder):
        ask = "Stop this trial after its next report"
        action = f"{pages.study_address(study.folder.name)}/trials/{number}/stop"
        forms = [Form("stop", ask, [], "Stop the trial", action=action, confirm=f"{ask}?")]
    return (
        f"Trial {number}",
        trial_page.introduction(study, record),
        trial_page.sections(study, record),
        [*forms, _compare_form(study.folder.name, number)],
    )


def _compare_form(name: str, number: int) -> Form:
    fields = [Field("a", "This trial", str(number), number=True)]
    fields.append(Field("b", "Another trial", number=True))
    return Form(
        "compare",
        "Compare with another trial",
        fields,
        "Compare",
        target=f"{pages.study_address(name)}/pair",
    )


def _crumbs(name: str) -> list[tuple[str, str]]:
    return [("Studies", "/"), (name, pages.study_address(name))]
