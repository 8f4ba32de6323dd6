"""Shipping to an MLflow server, which comes and goes as servers do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from flowersweep.config import Tracking
from flowersweep.tracking import registry, store
from flowersweep.tracking.shipment import Shipment
from flowersweep.tracking.shipper import Shipper, run_ids, sync

Starter = Callable[[], Callable[[], None]]


@pytest.fixture
def server(migrated: Path, tmp_path: Path, free_port: int) -> Iterator[tuple[Tracking, Starter]]:
    """Yield where the server will be, and a function that starts it and returns one that stops it."""
    shutil.copy(migrated, tmp_path / "server.db")
    address = f"http://127.0.0.1:{free_port}"
    stops: list[Callable[[], None]] = []

    def start() -> Callable[[], None]:
        where = ["--host", "127.0.0.1", "--port", str(free_port), "--workers", "1"]
        what = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "kept")]
        quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = (tmp_path / "server.log").open("a")
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *where, *what],
            env=quiet, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip

        def stop() -> None:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(20)

        stops.append(stop)
        _wait_for(address, process)
        return stop

    yield Tracking(uri=address), start
    for stop in stops:
        stop()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(180):
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server did not come up")


@pytest.mark.slow
def test_a_server_that_stops_and_starts_again_in_the_middle_of_a_study_gets_all_of_it(server, tmp_path, study, caplog):
    import keras

    tracking, start = server
    stop = start()
    study.write(study.begin())
    with Shipper(Shipment(study.path, tracking, study.dir)) as shipper:
        study.write(*study.whole(0, logits=True))
        assert shipper.drain(60)
        stop()
        study.write(*study.whole(1, logits=True), study.ask(2))
        assert not shipper.drain(20)
        assert "python -m flowersweep sync study=smoothing" in caplog.text
        start()
        study.write(study.report(2, 1), study.tell(2), study.stop(best=1))
        assert shipper.drain(60)
    assert sync(study.path, tracking, study.dir) == 0

    runs = run_ids(study.path, tracking, study.dir)
    client = store.client(tracking, study.dir)
    assert len(client.search_runs([client.get_experiment_by_name("smoothing").experiment_id])) == 4
    assert [client.get_run(run).info.status for run in (runs.parent, *runs.trials.values())] == ["FINISHED"] * 4
    assert len(client.get_metric_history(runs.trials[1], "train/loss")) == 3
    assert client.get_run(runs.trials[1]).info.artifact_uri.startswith("mlflow-artifacts:")
    assert len(list((tmp_path / "kept").rglob("logits.npz"))) == 2
    assert not (study.dir / "artifacts").exists()

    images = np.zeros((2, 8, 8, 3), np.uint8)
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    registry.log_model(runs.trials[1], network, images, client, facts={"classes": ["a", "b", "c", "d"]})
    registry.log_model(runs.trials[1], network, images, client)
    assert [str(registry.promote("smoothing", tracking, study.dir).version) for _ in range(2)] == ["1", "1"]
    loaded = registry.load(tracking, study.dir)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), network.predict(images, verbose=0), rtol=1e-6)
    assert registry.facts(tracking, study.dir)["classes"] == ["a", "b", "c", "d"]
