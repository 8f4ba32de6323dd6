"""Serve optuna-dashboard, if it is installed, from an in-memory copy of the journals."""

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
        """Log no request."""


@contextmanager
def dashboard(paths: Sequence[Path], port: int) -> Iterator[str | None]:
    """Serve the dashboard while the context lasts; yield its address.

    The address is None if optuna-dashboard is not installed. A click in the dashboard changes no
    study, since the storage is only a copy in memory.

    Args:
        paths: The journals of the studies to show.
        port: The preferred port; if it is taken, any free one.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        yield None
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.InMemoryStorage()
    with ExitStack() as stack:
        for path in paths:
            with suppress(StudyError):  # one bad study must not hide the others
                if journals.read_events(path, most=1)[0]:
                    stack.enter_context(Shipper(OptunaExporter(path, storage)))
        server = _server(importlib.import_module("optuna_dashboard").wsgi(storage), port)
        thread = threading.Thread(target=server.serve_forever, name="dashboard", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()


def _server(application: Any, port: int) -> WSGIServer:
    try:
        return make_server("127.0.0.1", port, application, handler_class=_Silent)
    except OSError:
        return make_server("127.0.0.1", 0, application, handler_class=_Silent)
