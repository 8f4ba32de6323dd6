"""Nothing here reaches the network; Keras runs on JAX; every study writes into a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.postgres import postgres, postgres_server  # noqa: F401 - fixtures of every test

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

ROOT = Path(__file__).parents[1]

# a training that ends in seconds: few, small images and a small network without pretrained weights
TINY = [
    "data.fetch={_target_: synthetic, classes: 5, train: 8, val: 6, test: 2, image_size: 32}",
    "model=tiny",
    "train.epochs=4",
    "train.batch_per_replica=8",
    "progress=false",
]

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own project: the working directory, with a backbone of its own under ./conf."""
    tiny_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tiny_model(folder: Path) -> None:
    """Write the backbone that TINY names into a project."""
    group = folder / "conf" / "model"
    group.mkdir(parents=True)
    (group / "tiny.yaml").write_text("name: tiny\nbackbone: {_target_: tiny_backbone}\nweights: none\n")


@pytest.fixture
def command(project: Path) -> Command:
    """Run ``python -m flowersweep`` in the project, as a user would."""

    def run(*words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flowersweep", *words],
            cwd=project,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


def environment() -> dict[str, str]:
    """The environment of a command: the package is found from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
