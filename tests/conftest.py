"""Nothing here reaches the network; Keras runs on JAX; every study has a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.kills import Fork, forks
from tests.postgres import postgres, postgres_server  # noqa: F401 - fixtures of every test

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

# machines are busy, and how long an example takes is no property
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

ROOT = Path(__file__).parents[1]

# a training that ends in seconds: few, small images and a small network without pretrained weights
TINY = [
    "data.fetch={_target_: synthetic, classes: 5, train: 8, val: 6, test: 2, image_size: 32}",
    "model=tiny",
    "train.epochs=4",
    "train.batch_per_replica=8",
    "train.min_head_steps=0",
    "data.folds=1",
    "progress=false",
]

Command = Callable[..., "subprocess.CompletedProcess[str]"]

if TYPE_CHECKING:
    from flowersweep.training.context import TrainingContext
    from tests.written_study import Study


SIGNAL_HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
LEFT_OUT = pytest.StashKey[int]()  # how many slow tests


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the slow tests that are left out."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.config.stash[LEFT_OUT] = item.config.stash.get(LEFT_OUT, 0) + 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the count from a process of pytest-xdist."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the count of a process of pytest-xdist; all of them have the same tests."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many slow tests were left out, and how to run them."""
    if number := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(
            f"{number} slow tests were left out. They run with: pytest -n 2 -m slow"
        )


def _restore_signals() -> None:
    for number, handler in SIGNAL_HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def restored_signals() -> Iterator[None]:
    """Take back the handlers that a command run in this process has installed.

    Before a test too: a fixture of its module may have run a command. An interrupt that a test
    raises would otherwise count as asked for, and end the next sweep in this process.
    """
    _restore_signals()
    yield
    _restore_signals()


@pytest.fixture(scope="session")
def kill_seed() -> int:
    """The seed of all that decides a kill; a test that fails shows it."""
    seed = int(os.environ.get("FLOWERSWEEP_KILL_SEED", "0"))
    print(f"the kills of this test again: FLOWERSWEEP_KILL_SEED={seed}")
    return seed


@pytest.fixture(scope="session")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fork]:
    """Run a command, to its end or to a moment, in a fork of a process that imported everything.

    A new project gets the cache of earlier sweeps: images, features and compiled programs.
    """
    with forks(tmp_path_factory.mktemp("forks"), environment()) as run:
        first = tmp_path_factory.mktemp("first")
        tiny_model(first)
        for sweep in ("smoothing", "quick"):
            words = [f"+sweep={sweep}", "tracking.enabled=false", "sweep.n_trials=1", *TINY]
            done = run(first, words)
            assert done.returncode == 0, done.stderr

        def run_warm(
            folder: Path, words: list[str], moment: str | None = None
        ) -> subprocess.CompletedProcess[str]:
            cache = folder / "mlruns" / "cache"
            if not cache.exists():
                shutil.copytree(first / "mlruns" / "cache", cache)
            return run(folder, words, moment)

        yield run_warm


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> TrainingContext:
    """What the trainings of one process share, with a cache of its own."""
    from flowersweep.runtime import start
    from flowersweep.training.context import TrainingContext

    return TrainingContext(
        start(), tmp_path_factory.mktemp("cache"), lambda what, done, total: None
    )


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow that every test copies, since a new one takes seconds."""
    from flowersweep.config.schema import Tracking
    from flowersweep.tracking import store

    folder = tmp_path_factory.mktemp("migrated")
    store.client(Tracking(), folder)
    return folder / "mlflow.db"


@pytest.fixture
def mlruns(migrated: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "mlruns"
    folder.mkdir()
    shutil.copy(migrated, folder / "mlflow.db")
    return folder


@pytest.fixture
def study(mlruns: Path) -> Study:
    """A study beside a database of MLflow, whose journal a test writes."""
    from tests.written_study import Study

    return Study(mlruns)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
    (group / "tiny.yaml").write_text(
        "name: tiny\nbackbone: {_target_: tiny_backbone}\nweights: none\n"
    )


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


@pytest.fixture
def plain_signals() -> Iterator[tuple[signal.Signals, ...]]:
    """The signals that a command handles, as a fresh process has them. A test before may have left
    its own, and who started the tests may have had some ignored.
    """
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield tuple(handlers)
    for number, handler in before.items():
        signal.signal(number, handler)
