"""optuna-dashboard, where it is installed, over the studies of a folder: made from their journals in memory, and kept up to date."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna

from flowersweep.errors import StudyError
from flowersweep.search.optuna_export import OptunaExporter
from flowersweep.study import journal as journals
from flowersweep.tracking.shipper import Shipper


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing of each request."""


@contextmanager
def dashboard(paths: Sequence[Path], port: int) -> Iterator[str | None]:
    """Serve the dashboard of the studies whose journals are given while the context lasts; its address, None if it is not installed.

    What is clicked there changes nothing: its storage is in memory and is forgotten. ``port``: taken if it is free, else any.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        yield None
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.InMemoryStorage()
    with ExitStack() as open_:
        for path in paths:
            if journals.read_events(path, most=1)[0]:
                with suppress(
                    StudyError
                ):  # one that the dashboard cannot show does not keep the others from it
                    open_.enter_context(Shipper(OptunaExporter(path, storage)))
        served = _server(importlib.import_module("optuna_dashboard").wsgi(storage), port)
        thread = threading.Thread(target=served.serve_forever, name="dashboard", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_port}"
        finally:
            served.shutdown()
            served.server_close()


def _server(application: Any, port: int) -> WSGIServer:
    try:
        return make_server("127.0.0.1", port, application, handler_class=_Silent)
    except OSError:
        return make_server("127.0.0.1", 0, application, handler_class=_Silent)
