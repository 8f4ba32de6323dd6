"""A real PostgreSQL for tests, from Debian's binaries: a server of its own in a temporary folder,
an empty database for each test.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_for

LOGIN = "flowersweep"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start PostgreSQL on 127.0.0.1 and a free port, yield its address without a database, stop it
    at the end.
    """
    binaries = find_binaries()
    driver = next((name for name in ("psycopg", "psycopg2") if find_spec(name)), None)
    if binaries is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    if driver is None:
        pytest.skip("no driver of PostgreSQL here: pip install 'psycopg[binary]'")
    folder = Path(tempfile.mkdtemp(prefix="flowersweep-postgres-"))
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        owner = _unprivileged(folder)
        words = [
            "-D",
            str(folder / "data"),
            "-U",
            LOGIN,
            "--auth=trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]
        subprocess.run(
            [binaries / "initdb", *words], cwd=folder, check=True, capture_output=True, **owner
        )
        words = [
            "-D",
            str(folder / "data"),
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-k",
            str(folder),
            "-F",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [binaries / "postgres", *words], cwd=folder, stdout=log, stderr=log, **owner
            )
        try:
            _wait_for(binaries, port, process, folder / "log")
            yield f"postgresql+{driver}://{LOGIN}@127.0.0.1:{port}"
        finally:
            # its "fast shutdown": whoever is connected is sent away
            process.send_signal(signal.SIGINT)
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: str, request: pytest.FixtureRequest) -> str:
    """Return the address of an empty database:
    ``postgresql+psycopg://flowersweep@127.0.0.1:PORT/NAME``.
    """
    from sqlalchemy import create_engine, text

    name = f"test_{abs(hash(request.node.nodeid)):x}"
    engine = create_engine(f"{postgres_server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{postgres_server}/{name}"


def find_binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL: Debian keeps its programs out of PATH."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Return whom to start the programs as, who then owns the folder: PostgreSQL refuses to run as
    root.
    """
    import pwd

    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    shutil.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _wait_for(binaries: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ready = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-U", LOGIN]
    wait_for(
        lambda: process.poll() is not None or subprocess.run(ready, check=False).returncode == 0,
        every=0.25,
    )
    assert process.poll() is None, log.read_text()
