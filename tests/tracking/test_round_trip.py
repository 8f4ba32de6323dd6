"""A model's way there and back on a real MLflow server whose database is a real PostgreSQL."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.__main__ import main
from flowersweep.config.schema import Data, Tracking
from flowersweep.data.dataset import open_dataset
from flowersweep.data.pipeline import in_order
from flowersweep.tracking import registry, store
from flowersweep.tracking.shipper import run_ids, sync
from tests.conftest import environment
from tests.tracking.test_server import healthy
from tests.waiting import wait_for

FETCH = {"_target_": "synthetic", "classes": 4, "train": 3, "val": 3, "test": 5, "image_size": 32}
DATA = Data(name="synthetic", fetch=FETCH)


@pytest.fixture
def server(postgres: str, tmp_path: Path, free_port: int) -> Iterator[str]:
    """Start an MLflow server over PostgreSQL and yield its address."""
    address = f"http://127.0.0.1:{free_port}"
    where = [
        "--host",
        "127.0.0.1",
        "--port",
        str(free_port),
        "--workers",
        "1",
        "--backend-store-uri",
        postgres,
    ]
    quiet = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    words = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        *where,
        "--artifacts-destination",
        str(tmp_path / "kept"),
    ]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            words, env=quiet, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: healthy(address, process), 120, every=0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def network(*, code: bool) -> Any:
    """A network of four classes; with ``code`` it carries a function of its own."""
    import keras

    keras.utils.set_random_seed(1)
    images = keras.Input((32, 32, 3), name="images")
    maps = (
        keras.layers.Lambda(lambda pixels: pixels / 255)(images)
        if code
        else keras.layers.Rescaling(1 / 255)(images)
    )
    return keras.Model(images, keras.layers.Dense(4)(keras.layers.Flatten()(maps)))


def submitted(words: list[str], output: Path) -> list[int]:
    """Predict in a process of its own; return the labels that it wrote."""
    asked = [
        sys.executable,
        "-m",
        "flowersweep",
        "predict",
        "alias=champion",
        f"output={output}",
        *words,
    ]
    done = subprocess.run(
        asked, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    with output.open() as file:
        return [int(row["label"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_champion_is_registered_loaded_by_alias_in_another_process_replaced_and_taken_back(
    server, postgres, study, tmp_path, capsys
):
    tracking, words = Tracking(uri=server), [f"tracking.uri={server}", f"dir={study.dir}"]
    study.write(study.begin(), *study.whole(0), *study.whole(1), study.stop(best=0))
    assert sync(study.path, tracking, study.dir) > 0
    runs, good = run_ids(study.path, tracking, study.dir).trials, network(code=False)
    dataset = open_dataset(DATA, study.dir / "cache")
    for number, model in enumerate((good, network(code=True))):
        facts = {"classes": list(dataset.classes), "data": asdict(DATA)}
        registry.log_model(
            runs[number],
            model,
            np.zeros((1, 32, 32, 3), np.uint8),
            store.client(tracking, study.dir),
            facts=facts,
        )

    # a network that was never trained is not better than chance
    assert main(["promote", f"run={runs[0]}", *words]) == 3
    assert "not better than chance" in capsys.readouterr().out
    assert main(["promote", f"run={runs[0]}", "force=true", "reason=first", *words]) == 0
    images = np.concatenate(list(in_order(dataset.splits["test"], (32, 32), 64)))
    expected = good.predict(images, verbose=0).argmax(axis=1).tolist()
    assert submitted(words, tmp_path / "first.csv") == expected

    assert (
        main(["promote", f"run={runs[1]}", "force=true", 'reason="a colleague likes it"', *words])
        == 0
    )
    assert "go back:" in capsys.readouterr().out
    assert main(["predict", "alias=champion", f"output={tmp_path}/second.csv", *words]) == 1
    assert "code that is not Keras's own" in capsys.readouterr().err

    assert main(["promote", "version=7", "force=true", 'reason="typo"', *words]) == 1
    assert "no version 7. Versions: 1, 2" in capsys.readouterr().err
    assert main(["promote", "version=1", *words]) == 1
    assert "force=true reason=" in capsys.readouterr().err
    assert (
        main(
            [
                "promote",
                "version=1",
                "force=true",
                'reason="it cannot be loaded, token=swordfish"',
                *words,
            ]
        )
        == 0
    )
    assert submitted(words, tmp_path / "third.csv") == expected

    # what the server knows is in PostgreSQL
    direct = store.client(Tracking(uri=postgres), study.dir)
    model = direct.get_registered_model("flowersweep")
    assert str(model.aliases["champion"]) == "1"
    moves = [
        value
        for key, value in sorted(model.tags.items())
        if key.startswith("flowersweep.champion.")
    ]
    assert [move.partition(": ")[0] for move in moves] == [
        "version 1 in place of none",
        "version 2 in place of 1",
        "version 1 in place of 2",
    ]
    assert [move.partition(": ")[2] for move in moves[1:]] == [
        "a colleague likes it",
        "it cannot be loaded, token=***",
    ]
