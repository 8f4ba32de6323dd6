"""Run the server of the pages until the context ends."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from werkzeug.serving import make_server

from flowersweep.config.schema import Config
from flowersweep.dashboard.app import make_app
from flowersweep.errors import ConfigError


@contextmanager
def served(config: Config, token: str | None = None) -> Iterator[tuple[str, threading.Thread]]:
    """Serve the studies of ``config`` while the context lasts.

    Yields:
        The address with its token, and the thread that serves.

    Raises:
        ConfigError: The port is in use, or the host is not this machine's.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would log the token
    token = token or secrets.token_urlsafe(24)
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", config.port)) == 0:
            raise ConfigError(
                f"something listens on port {config.port} already: choose another, "
                f"port={config.port + 1}"
            )
    try:
        server = make_server(config.host, config.port, make_app(config, token), threaded=True)
    except (OSError, SystemExit) as error:  # Werkzeug exits where it cannot bind
        raise ConfigError(f"host={config.host}: this machine cannot serve there") from error
    thread = threading.Thread(
        target=server.serve_forever, args=(0.1,), name="dashboard", daemon=True
    )
    thread.start()
    try:
        name = "127.0.0.1" if config.host in ("0.0.0.0", "localhost") else config.host
        yield f"http://{name}:{config.port}/?token={token}", thread
    finally:
        server.shutdown()
        thread.join(timeout=5)
        server.server_close()
