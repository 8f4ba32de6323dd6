"""Shipping to an MLflow server, which comes and goes as servers do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from flowersweep.config.schema import Tracking
from flowersweep.tracking import registry, store
from flowersweep.tracking.mlflow_sink import MlflowSink
from flowersweep.tracking.shipper import Shipper, run_ids, sync
from tests.events import lines
from tests.tracking.proxy import TROUBLES, Proxy
from tests.tracking.stored import promote
from tests.waiting import wait_for
from tests.written_study import Study


@dataclass
class Server:
    """A server that can be started and stopped; its database and files lie in ``folder``."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers."""
        if self.process is not None and self.process.poll() is None:
            return
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        what = [
            "--backend-store-uri",
            f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination",
            str(self.folder / "kept"),
        ]
        quiet = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with (self.folder / "server.log").open("a") as log:
            self.process = process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *where, *what],
                env=quiet, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: healthy(self.address, process), 90, every=0.5)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(20)


@pytest.fixture(scope="module")
def server(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server that is not started yet; starting takes seconds, so all tests share it."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(migrated, folder / "server.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    shared = Server(folder, port)
    yield shared
    shared.stop()


def healthy(address: str, process: subprocess.Popen[bytes]) -> bool:
    """Return whether a server answers."""
    assert process.poll() is None, "the server ended"
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2):
            return True
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_whatever_a_server_does_each_value_arrives_once(
    trouble, server, mlruns, caplog, monkeypatch
):
    server.start()
    study = Study(mlruns, f"a-server-that-{trouble.replace(' ', '-')}")
    with Proxy(server.port) as proxy:
        tracking = Tracking(uri=proxy.address)
        study.write(study.begin())
        with Shipper(MlflowSink(study.path, tracking, study.dir)) as shipper:
            study.write(*study.whole(0), study.ask(1), study.report(1, 1))
            assert shipper.drain(60)
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
            proxy.begin(trouble)
            study.write(study.report(1, 2), study.tell(1, logits=True), *study.whole(2))
            assert not shipper.drain(None)
            assert proxy.met >= 3
            assert f"python -m flowersweep sync study={study.name}" in caplog.text
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
            proxy.end()
            study.write(*study.whole(3))
        study.write(study.stop())
        sync(study.path, tracking, study.dir)
        assert sync(study.path, tracking, study.dir) == 0
    assert stored(server.folder / "server.db", study.name) == journaled(study)


def stored(database: Path, study: str) -> Counter[tuple[str, str, int, float]]:
    """Count what a server's database holds: trial, metric, step, value."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "select tags.value, metrics.key, step, metrics.value from metrics join tags using "
            "(run_uuid) "
            "where tags.key = 'flowersweep.trial' and run_uuid in "
            "(select run_uuid from tags where key = 'flowersweep.study' and value = ?)",
            (study,),
        )
        return Counter(rows.fetchall())


def journaled(study: Study) -> Counter[tuple[str, str, int, float]]:
    """Count what a journal says."""
    found: Counter[tuple[str, str, int, float]] = Counter()
    steps: dict[int, int] = {}
    for event in lines(study.path):
        for epoch in event.get("epochs", ()):
            steps[event["trial"]] = epoch["epoch"]
            found.update(
                (str(event["trial"]), key, epoch["epoch"], value)
                for key, value in epoch["metrics"].items()
            )
        if event["event"] == "trial_ended":
            found.update(
                (str(event["trial"]), key, steps[event["trial"]], value)
                for key, value in event["metrics"].items()
            )
    return found


@pytest.mark.slow
def test_a_server_that_stops_and_starts_again_in_the_middle_of_a_study_gets_all_of_it(
    server, study, caplog
):
    import keras

    tracking = Tracking(uri=server.address)
    server.start()
    study.write(study.begin())
    with Shipper(MlflowSink(study.path, tracking, study.dir)) as shipper:
        study.write(*study.whole(0, logits=True))
        assert shipper.drain(60)
        server.stop()
        study.write(*study.whole(1, logits=True), study.ask(2))
        assert not shipper.drain(20)
        assert "python -m flowersweep sync study=smoothing" in caplog.text
        server.start()
        study.write(study.report(2, 1), study.tell(2), study.stop(best=1))
        assert shipper.drain(60)
    assert sync(study.path, tracking, study.dir) == 0

    runs = run_ids(study.path, tracking, study.dir)
    client = store.client(tracking, study.dir)
    assert len(client.search_runs([client.get_experiment_by_name("smoothing").experiment_id])) == 4
    assert [client.get_run(run).info.status for run in (runs.parent, *runs.trials.values())] == [
        "FINISHED"
    ] * 4
    assert len(client.get_metric_history(runs.trials[1], "train/loss")) == 3
    assert client.get_run(runs.trials[1]).info.artifact_uri.startswith("mlflow-artifacts:")
    kept = [
        path
        for run in runs.trials.values()
        for path in (server.folder / "kept").rglob(f"{run}/**/logits.npz")
    ]
    assert len(kept) == 2
    assert not (study.dir / "artifacts").exists()

    images = np.zeros((2, 8, 8, 3), np.uint8)
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    registry.log_model(
        runs.trials[1], network, images, client, facts={"classes": ["a", "b", "c", "d"]}
    )
    registry.log_model(runs.trials[1], network, images, client)
    assert [str(promote("smoothing", tracking, study.dir).version) for _ in range(2)] == [
        "1",
        "1",
    ]
    loaded = registry.load(tracking, study.dir)
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), network.predict(images, verbose=0), rtol=1e-6
    )
    assert registry.model_metadata(tracking, study.dir)["classes"] == ["a", "b", "c", "d"]
