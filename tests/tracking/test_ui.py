"""`ui` serves MLflow, and optuna-dashboard where it is installed; it says where and nothing else,
and leaves nothing running.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import psutil
import pytest

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError
from flowersweep.search.optuna_dashboard import dashboard
from flowersweep.tracking.server import end_group, serve_ui
from tests.conftest import environment
from tests.report.made_up import of_all_kinds
from tests.waiting import wait_for


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGHUP])
def test_one_command_serves_both_says_where_and_ends_both(end, study, free_port):
    of_all_kinds(name="flowers").write(study.dir / "studies")
    command = [sys.executable, "-m", "flowersweep", "ui", f"port={free_port}", f"dir={study.dir}"]
    process = subprocess.Popen(
        command,
        env={**environment(), "http_proxy": "http://127.0.0.1:9"},  # nobody is there
        cwd=study.dir,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said, ports = [], []
    try:
        for line in process.stdout:
            said.append(line)
            ports += [int(line.rpartition(":")[2])] if "http://" in line else []
            if line.startswith("Ctrl-C"):
                break
        assert ports[:1] == [free_port], said
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/health", timeout=30) as answer:
            assert answer.status == 200
    finally:
        os.killpg(process.pid, end)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(said) == 4
    assert rest == "ended\n"
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("optuna_dashboard") is None, reason="optuna-dashboard is not installed"
)
def test_the_dashboard_has_the_studies_of_the_journals_and_follows_them(study, free_port):
    study.write(lambda journal: None)  # one that has not begun
    folder = of_all_kinds(name="flowers").write(study.dir / "studies")
    with (
        dashboard([study.path, folder / "journal.jsonl"], free_port) as address,
        socket.socket() as taken,
    ):
        assert address == f"http://127.0.0.1:{free_port}"
        with urllib.request.urlopen(f"{address}/api/studies", timeout=30) as answer:
            [found] = json.load(answer)["study_summaries"]
        assert found["study_name"] == "flowers"
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        # another port than the one that is taken
        with dashboard([], taken.getsockname()[1]) as other:
            assert other is not None
            assert not other.endswith(f":{taken.getsockname()[1]}")


def test_a_parent_that_was_killed_takes_the_server_and_its_workers_with_it():
    server = ["sh", "-c", "sleep 300 & echo $$ $!; wait"]
    start = (
        "import subprocess, sys, time; from flowersweep.tracking.server import ENDS_WITH_PARENT; "
        "subprocess.Popen(['/bin/sh', '-c', ENDS_WITH_PARENT, 'sh', *sys.argv[1:]], "
        "stdin=subprocess.PIPE, start_new_session=True); time.sleep(300)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", start, *server],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    processes = [psutil.Process(int(number)) for number in parent.stdout.readline().split()]
    assert all(process.is_running() for process in processes)
    parent.kill()
    parent.wait(30)
    psutil.wait_procs(processes, 30)
    assert not any(alive(process) for process in processes)
    parent.stdout.close()


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_server_that_cannot_start_is_told_with_its_reason(study, free_port):
    (study.dir / "mlflow.db").write_bytes(b"this is no database, and never was" * 100)
    with pytest.raises(TrackingError), serve_ui(Tracking(), study.dir, free_port):
        pass


def test_the_workers_of_a_server_that_was_killed_end_with_it():
    leader = subprocess.Popen(
        ["sh", "-c", "sleep 300 & echo $!; wait"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert leader.stdout is not None
    worker = psutil.Process(int(leader.stdout.readline()))
    leader.kill()
    leader.wait(30)
    assert worker.is_running()
    end_group(leader)
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 30)
    end_group(leader)  # once more, when nobody is left
    leader.stdout.close()


@pytest.mark.slow
def test_no_command_line_of_the_server_shows_the_password_of_the_store(tmp_path, free_port):
    uri = f"sqlite:///file:{tmp_path}/store.db?uri=true&password=hunter2-hunter2"
    with serve_ui(Tracking(uri=uri), tmp_path, free_port) as server:
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        assert "hunter2" not in str([process.cmdline() for process in family])
    assert (tmp_path / "ui.log").stat().st_mode & 0o777 == 0o600
