"""MLflow's pages over the store of this project, on this machine alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError
from flowersweep.tracking.masking import masked_text
from flowersweep.tracking.store import address, client, remote

LONGEST_START = 120.0  # seconds


@contextmanager
def serve_ui(tracking: Tracking, dir: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Have an MLflow server answer on 127.0.0.1 while the context lasts; what it says goes to ``ui.log`` in ``dir``.

    Raises TrackingError if the store is a server itself, the port is taken, or it does not come up.
    """
    uri = address(tracking, dir)
    if remote(uri):
        raise TrackingError(f"the store is a server itself: open {masked_text(uri)} in a browser")
    with socket.socket() as trial:
        if trial.connect_ex(("127.0.0.1", port)) == 0:
            raise TrackingError(
                f"something listens on port {port} already: choose another, port={port + 1}"
            )
    client(tracking, dir)  # makes the database, should there be none
    where = [
        "--backend-store-uri",
        uri,
        "--artifacts-destination",
        str((dir / "artifacts").resolve()),
    ]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        *where,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    quiet = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **os.environ,
    }  # jobs are for language models
    with (dir / "ui.log").open("wb") as log:
        # a group of its own: a Ctrl-C is ours, and the server's workers end with it
        process = subprocess.Popen(
            command,
            env=quiet,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for(process, port, dir / "ui.log")
        yield process
    finally:
        _end(process)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + LONGEST_START
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    said = log.read_text(errors="replace").strip().splitlines()
    raise TrackingError(
        "MLflow's server does not come up "
        f"({masked_text(said[-1]) if said else 'it says nothing'}); all it said: {log}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, by force if they do not heed.

    The group is signalled even if its first process is gone: the workers would keep the port.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):  # all of the group are gone
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
