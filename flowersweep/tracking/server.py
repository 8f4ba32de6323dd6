"""Serve MLflow's pages for the project's store, on this machine only."""

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
from flowersweep.util.files import open_private

LONGEST_START = 120.0  # seconds
# The kernel closes the pipe of a parent that was killed: then the whole process group ends.
ENDS_WITH_PARENT = """
exec 3<&0 </dev/null
{ trap "" TERM; read _; kill -s TERM 0; sleep 10; kill -s KILL 0; } <&3 &
exec "$@" 3<&-
"""


@contextmanager
def serve_ui(tracking: Tracking, dir: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run an MLflow server on 127.0.0.1 while the context lasts; its output goes to ``ui.log``.

    Raises:
        TrackingError: The store is a server itself, the port is in use, or the server does not
            start.
    """
    uri = address(tracking, dir)
    if remote(uri):
        raise TrackingError(f"the store is a server itself: open {masked_text(uri)} in a browser")
    with socket.socket() as trial:
        if trial.connect_ex(("127.0.0.1", port)) == 0:
            raise TrackingError(
                f"something listens on port {port} already: choose another, port={port + 1}"
            )
    client(tracking, dir)  # creates the database if there is none
    process = _start(uri, dir, port)
    try:
        _wait_for(process, port, dir / "ui.log")
        yield process
    finally:
        end_group(process)
        assert process.stdin is not None
        process.stdin.close()


def _start(uri: str, dir: Path, port: int) -> subprocess.Popen[bytes]:
    artifacts = str((dir / "artifacts").resolve())
    server = [sys.executable, "-m", "mlflow", "server", "--artifacts-destination", artifacts]
    server += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # MLflow's jobs are for language models
        **os.environ,
        # Not on the command line, which every user of the machine can read: it may have a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    with open_private(dir / "ui.log") as log:
        # A process group of its own: Ctrl-C does not reach it, and its workers end with it.
        return subprocess.Popen(
            ["/bin/sh", "-c", ENDS_WITH_PARENT, "sh", *server],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + LONGEST_START
    own = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # not by way of a proxy
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with own.open(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    output = log.read_text(errors="replace").strip().splitlines()
    raise TrackingError(
        "MLflow's server does not come up "
        f"({masked_text(output[-1]) if output else 'it says nothing'}); all it said: {log}"
    )


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers: SIGTERM first, then SIGKILL.

    Signal the group even if its first process is gone: the workers would keep the port.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        # Both mean that the whole group is gone; macOS says the second.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
