"""MLflow's own server answers a POST with class names and probabilities."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flowersweep.config.schema import Tracking
from flowersweep.errors import DataError
from flowersweep.evaluation.calibration import probabilities
from flowersweep.serving import ServedModel
from flowersweep.tracking import store
from tests.conftest import environment
from tests.waiting import wait_for
from tests.workflows.conftest import network, promote  # noqa: F401 - network is a fixture

CLASSES = ["pink primrose", "wild rose", "tulip", "Lilie, weiß"]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((1, 8, 8, 3)), r"must have \(n, 32, 32, 3\)"),
        ([], r"must have \(n, 32, 32, 3\)"),
        ([[1, 2], [3]], "neither images nor base64 text"),
        (["%%%"], "image 0: no base64 text"),
        ([base64.b64encode(b"text").decode()], "image 0: .*not one of JPEG"),
    ],
)
def test_what_is_no_image_is_refused(data, message, network):  # noqa: F811
    with pytest.raises(DataError, match=message):
        ServedModel(network, CLASSES, "stretch").predict(data)


def test_pyfunc_takes_files_and_arrays_and_its_signature_names_the_answer(study, network):  # noqa: F811
    import mlflow.pyfunc

    promote(study, network, CLASSES)
    (path,) = study.dir.rglob("MLmodel")
    model = mlflow.pyfunc.load_model(str(path.parent))
    file = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    expected = model.predict(IMAGES[:1])
    for data in ([file.getvalue()], [text], pd.DataFrame({"image": [text]}), IMAGES[:1].tolist()):
        answer = model.predict(data)
        assert answer[0]["class"] == expected[0]["class"]
        assert answer[0]["probabilities"] == pytest.approx(expected[0]["probabilities"], rel=1e-4)
    assert model.metadata.get_input_schema() is None
    assert model.metadata.get_output_schema().input_names() == list(expected[0])


@pytest.mark.slow
def test_mlflow_serves_the_champion(study, network, free_port):  # noqa: F811
    promote(study, network, CLASSES)
    file = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(file, "PNG")
    uri = store.address(Tracking(), study.dir)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls uvicorn
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"),
            *("-m", "models:/flowersweep@champion", "--port", str(free_port)),
        ],
        env={**environment(), "MLFLOW_TRACKING_URI": uri, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # it starts processes of its own
    )
    address = f"http://127.0.0.1:{free_port}"

    def answers() -> bool:
        with suppress(URLError, OSError):
            return bool(urlopen(f"{address}/ping", timeout=5).status == 200)
        return False

    def ask(inputs: object) -> list[dict[str, object]]:
        request = Request(
            f"{address}/invocations",
            json.dumps({"inputs": inputs}).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=60) as response:
            return json.load(response)["predictions"]  # type: ignore[no-any-return]

    try:
        wait_for(lambda: answers() or server.poll() is not None, 120)
        expected = probabilities(np.asarray(network.predict(IMAGES, verbose=0)))
        answered = ask(IMAGES.tolist())
        assert [answer["label"] for answer in answered] == expected.argmax(axis=1).tolist()
        (one,) = ask([base64.b64encode(file.getvalue()).decode()])
        assert one["class"] == CLASSES[expected[0].argmax()]
        assert one["probability"] == pytest.approx(expected[0].max(), rel=1e-4)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
