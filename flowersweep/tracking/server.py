"""MLflow's pages over the store of this project, on this machine alone."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from flowersweep.config import Tracking
from flowersweep.errors import TrackingError
from flowersweep.tracking.masking import masked_text
from flowersweep.tracking.store import address, client, remote


def serve(tracking: Tracking, dir: Path, port: int, ready: Callable[[], None]) -> None:
    """Call ``ready`` and become an MLflow server on 127.0.0.1 until interrupted. Raises TrackingError if the store is a server."""
    uri = address(tracking, dir)
    if remote(uri):
        raise TrackingError(f"the store is a server itself: open {masked_text(uri)} in a browser")
    with socket.socket() as trial:
        if trial.connect_ex(("127.0.0.1", port)) == 0:
            raise TrackingError(f"something listens on port {port} already: choose another, port={port + 1}")
    client(tracking, dir)  # makes the database, should there be none
    where = ["--backend-store-uri", uri, "--artifacts-destination", str((dir / "artifacts").resolve())]
    ready()
    # in place of this process, so that Ctrl-C and signals reach the server itself
    os.execv(
        sys.executable, [sys.executable, "-m", "mlflow", "server", *where, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    )
