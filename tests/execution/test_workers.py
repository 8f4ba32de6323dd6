"""Several workers, one study: no trial is lost, doubled or stuck, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from flowersweep import signals
from flowersweep.config.compose import compose
from flowersweep.errors import ConfigError
from flowersweep.execution.in_process import InProcess
from flowersweep.execution.pool import WorkerPool
from flowersweep.execution.processes import ProcessBackend, shares
from flowersweep.execution.protocol import (
    Checkpoint,
    CheckpointReached,
    Executor,
    Message,
    Paused,
    Progress,
    StartTrial,
    Task,
    TaskDone,
    TrainUntil,
    TrialSpec,
    WorkerConfig,
    WorkerLost,
)
from flowersweep.execution.ray_actors import require_room
from flowersweep.runtime import start
from flowersweep.training.context import TrainingContext
from flowersweep.training.image_trainer import ImageTrainer
from tests.conftest import TINY, Command, environment
from tests.events import fold, story
from tests.kills import DIE_AT_WRITE
from tests.waiting import wait_for

WORDS = ["+sweep=smoothing", "sampler.n_startup_trials=4", "train.checkpoint_interval_s=0", *TINY]


def children(process: int) -> list[int]:
    """The workers of a coordinator, by their command lines."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
            if (
                parent == process
                and b"flowersweep.execution.worker" in (each / "cmdline").read_bytes()
            ):
                found.append(int(each.name))
        except OSError:  # it has ended
            continue
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def events(study: Path) -> list[dict[str, Any]]:
    path = study / "journal.jsonl"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


def require_whole(study: Path, trials: int) -> list[dict[str, Any]]:
    """Every trial was asked for once, in order, and told once; return what was told."""
    happened = story(study)
    assert [event["trial"] for event in happened if event["event"] == "trial_asked"] == list(
        range(trials)
    )
    tells = [event for event in happened if event["event"] == "trial_ended"]
    assert sorted(event["trial"] for event in tells) == list(range(trials))
    reported = Counter(
        (event["trial"], event["epochs"][-1]["epoch"])
        for event in happened
        if event["event"] == "epochs_reported"
    )
    assert set(reported.values()) == {1}
    return tells


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """The words for a real database server; for MLflow's usual one where there is no PostgreSQL."""
    if [*Path("/usr/lib/postgresql").glob("*/bin/initdb")] and find_spec("psycopg"):
        return f"tracking.uri={request.getfixturevalue('postgres')}"
    return "tracking.enabled=true"


def run_until_killed(project: Path, study: Path, words: list[str], chance: Generator) -> str:
    """Run a study; kill one of its workers and then its coordinator; say when."""
    start = len(events(study))
    # events: the coordinator's last, and the one a worker dies at
    last, worker = int(chance.integers(9, 18)), int(chance.integers(2, 8))
    share = str(chance.choice([0.0, 0.5, 1.0]))
    line = [sys.executable, str(DIE_AT_WRITE), "event", str(last), share, *words]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        line, cwd=project, env=environment(), start_new_session=True, stdout=quiet, stderr=quiet
    )
    workers: set[int] = set()

    def watched(condition: Callable[[], bool]) -> Callable[[], bool]:
        """Note the workers while something is waited for."""
        return lambda: workers.update(children(process.pid)) or condition()  # type: ignore[func-returns-value]

    def over() -> bool:
        return process.poll() is not None

    try:
        wait_for(watched(lambda: over() or len(events(study)) >= start + worker), 300, every=0.01)
        assert not over(), "it ended before a worker could be killed"
        os.kill(int(chance.choice(sorted(children(process.pid)))), signal.SIGKILL)
        wait_for(watched(over), 300)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    wait_for(lambda: not any(map(alive, workers)))  # they notice by themselves
    return f"a worker at event {worker}, the coordinator at {last}"


@pytest.mark.slow
def test_workers_and_coordinator_killed_at_random_equal_a_study_never_killed(
    project: Path, command: Command, store: str, kill_seed: int
) -> None:
    words = [*WORDS, "sweep.workers=2", "sweep.n_trials=8"]
    whole = command(*words, "study=whole", "tracking.enabled=false")
    assert whole.returncode == 0, whole.stderr
    studies = project / "mlruns" / "studies"
    study, words = studies / "killed", [*words, "study=killed", store]
    chance = np.random.default_rng(kill_seed)
    kills = [run_until_killed(project, study, words, chance) for _ in range(2)]
    again = command(*words)
    assert again.returncode == 0, again.stderr
    tells = require_whole(study, 8)
    assert {tell["state"] for tell in tells} <= {"complete", "pruned"}, kills
    assert story(study) == story(studies / "whole"), kills
    assert "8 trials: " in again.stdout
    assert not [*study.glob("checkpoints/*")]

    from flowersweep.config.schema import Tracking
    from flowersweep.tracking.store import client

    uri = store.removeprefix("tracking.uri=") if store.startswith("tracking.uri") else None
    found = client(Tracking(uri=uri), project / "mlruns")
    runs = found.search_runs(
        [experiment.experiment_id for experiment in found.search_experiments()]
    )
    assert sorted(
        int(run.data.tags["flowersweep.trial"])
        for run in runs
        if "flowersweep.trial" in run.data.tags
    ) == list(range(8))
    assert not [run for run in runs if run.info.status == "RUNNING"]


@pytest.mark.slow
def test_a_trial_that_kills_its_workers_fails_and_the_others_go_on(
    project: Path, command: Command
) -> None:
    (project / "deadly.py").write_text(
        "import os\n\ndef loss(logits, labels):\n    os.kill(os.getpid(), 9)\n"
    )
    (project / "conf" / "loss").mkdir()
    (project / "conf" / "loss" / "deadly.yaml").write_text("_target_: deadly.loss\nname: deadly\n")
    space = '+sweep.space.loss={path: loss, values: "choice(smoothed_cross_entropy, deadly)"}'
    words = ["+sweep=quick", *TINY, "~sweep.space.learning_rate", space]
    words += [
        "trusted_modules=[deadly]",
        "sampler=grid",
        "sweep.n_trials=2",
        "sweep.workers=2",
        "tracking.enabled=false",
        "study=deadly",
    ]
    run = command(*words)
    assert run.returncode == 0, run.stderr
    study = project / "mlruns" / "studies" / "deadly"
    tells = {tell["state"]: tell for tell in require_whole(study, 2)}
    assert set(tells) == {"complete", "failed"}
    assert "lost 3 times" in tells["failed"]["reason"]
    assert "SIGKILL" in tells["failed"]["reason"]
    assert [event["trial"] for event in events(study) if event["event"] == "worker_lost"] == [
        tells["failed"]["trial"]
    ] * 3


def answered(executor: Executor, task: Task, checkpoints: list[Checkpoint]) -> Any:
    """Have a task of trial 0 done; return its answer, or what came in its place."""
    answers: list[Message] = []

    def handle(message: Message) -> None:
        if isinstance(message, CheckpointReached):
            checkpoints.append(message.checkpoint)
        elif not isinstance(message, Progress):
            answers.append(message)

    executor.submit(0, task)
    while not answers:
        executor.receive(handle)
    (message,) = answers
    assert message.trial == 0
    return message.answer if isinstance(message, TaskDone) else message


@pytest.mark.slow
def test_another_worker_goes_on_from_the_checkpoint_and_gives_the_same(project: Path) -> None:
    config = compose([*TINY, "train.checkpoint_interval_s=0"])
    cache = project / "mlruns" / "cache"
    context = TrainingContext(start(cache / "compiled"), cache, lambda what, done, total: None)
    trainer = ImageTrainer(context)
    job = TrialSpec(0, config, {}, None, trainer.fingerprint(config))
    whole: Executor = InProcess(trainer)
    kept: list[Checkpoint] = []
    assert answered(whole, StartTrial(job, None), kept) == 0
    expected = [
        epoch.metrics for until in (2, 3, 4) for epoch in answered(whole, TrainUntil(until), kept)
    ]
    worker_config = WorkerConfig(
        str(project),
        tuple(sys.path),
        "flowersweep.training.image_trainer:make_worker_trainer",
        (cache, ()),
    )
    with WorkerPool(ProcessBackend(1), 1, worker_config) as crew:
        assert crew.wait_until_ready().platform == "cpu"
        kept.clear()
        assert answered(crew, StartTrial(job, None), kept) == 0
        first = [*answered(crew, TrainUntil(2), kept), *answered(crew, TrainUntil(3), kept)]
        assert [each.epoch for each in kept] == [2]
        (worker,) = children(os.getpid())
        os.kill(worker, signal.SIGKILL)
        lost = answered(crew, TrainUntil(4), kept)
        assert isinstance(lost, WorkerLost)
        assert "SIGKILL" in lost.reason
        kept[-1].save(project / "kept.npz")
        # and not from epoch 0
        assert answered(crew, StartTrial(job, (project / "kept.npz").read_bytes()), kept) == 2
        second = [*answered(crew, TrainUntil(3), kept)]
        assert children(os.getpid()) != [worker]
        crew.request_stop()
        assert isinstance(answered(crew, TrainUntil(4), kept), Paused)  # the minutes are used up
        assert kept[-1].epoch == 3
    found = [epoch.metrics for epoch in [*first, *second]]
    for one_, other in zip([*expected[:3], expected[2]], found, strict=True):
        assert one_ == pytest.approx(other, rel=1e-4)
    assert found[2] == found[3]  # the same worker or another: the same numbers


@pytest.fixture
def cluster() -> Iterator[subprocess.Popen[str]]:
    """A Ray cluster with two nodes for workers."""
    pytest.importorskip("ray")
    line = [sys.executable, str(Path(__file__).with_name("ray_cluster.py")), "2"]
    quiet = {**environment(), "RAY_DEDUP_LOGS": "0"}
    with subprocess.Popen(
        line,
        env=quiet,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.mark.slow
def test_a_study_on_a_ray_cluster_survives_the_loss_of_a_node(
    project: Path, cluster: subprocess.Popen[str]
) -> None:
    assert cluster.stdin
    assert cluster.stdout
    words = [*WORDS, "sweep.workers=2", "sweep.n_trials=6", "tracking.enabled=false"]
    words += ["executor=ray", f"executor.address={cluster.stdout.readline().strip()}"]

    def begun(name: str, chips: int) -> subprocess.Popen[str]:
        line = [
            sys.executable,
            "-m",
            "flowersweep",
            *words,
            f"study={name}",
            f"executor.resources={{chip: {chips}}}",
        ]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            line, cwd=project, env=environment(), stdout=pipe, stderr=pipe, text=True
        )

    going, refused = begun("ray", 3), begun("refused", 8)
    _, said = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert "executor.resources={chip: 8} is more than any node of the Ray cluster has" in said
    assert "CPU: 1, chip: 4 (2 x)" in said
    assert not events(project / "mlruns" / "studies" / "refused")

    study = project / "mlruns" / "studies" / "ray"
    wait_for(
        lambda: (
            going.poll() is not None
            or any(event["event"] == "epochs_reported" for event in events(study))
        ),
        300,
    )
    print("remove 0", file=cluster.stdin, flush=True)
    printed, said = going.communicate(timeout=240)
    assert going.returncode == 0, said
    assert "6 trials: " in printed
    tells = require_whole(study, 6)
    assert {tell["state"] for tell in tells} <= {"complete", "pruned"}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ActorUnavailableError", ("lost", None)),
        ("ObjectLostError", ("lost", None, "")),
        ("OutOfMemoryError", ("lost",)),
        ("RuntimeEnvSetupError", ("lost",)),
        ("ActorUnschedulableError", ("lost",)),
    ],
)
def test_whatever_ray_says_of_a_worker_that_is_gone_it_is_lost(
    name: str, arguments: tuple[Any, ...]
) -> None:
    exceptions = pytest.importorskip("ray.exceptions")
    from flowersweep.execution.ray_actors import RayConnection

    def lost(message: str) -> None:
        raise getattr(exceptions, name)(*arguments)

    actor = SimpleNamespace(hear=SimpleNamespace(remote=lambda: "0" * 56))
    with pytest.raises(EOFError, match="lost"):
        RayConnection(SimpleNamespace(get=lost, exceptions=exceptions), actor).receive()


def test_a_library_that_listens_to_signals_does_not_take_them_away() -> None:
    before = signal.signal(signal.SIGTERM, signals._end)
    try:
        with signals.preserve_sigterm():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        assert signal.getsignal(signal.SIGTERM) is signals._end
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_trial_that_reports_between_them_does_not_kill_its_workers() -> None:
    report = {"event": "epochs_reported", "trial": 0, "epochs": [{"epoch": 1}], "value": 1.0}
    asked = [{"event": "trial_asked", "trial": number} for number in (0, 1)]
    lost = [{"event": "worker_lost", "trial": number, "reason": ""} for number in (0, 1)]
    happened: list[dict[str, Any]] = [*asked, lost[0], lost[0], report, lost[0]]
    assert fold(happened).worker_failures == {0: 1}
    assert fold([*happened, lost[1]]).worker_failures == {0: 1, 1: 1}


def test_without_ray_the_command_to_install_it_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowersweep.execution.ray_actors import RayBackend

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'flowersweep\[ray\]'"):
        RayBackend(1, "auto")


@pytest.mark.parametrize(
    ("resources", "room"),
    [
        ({"TPU": 4}, True),
        ({"TPU": 4, "CPU": 8}, True),
        ({"TPU": 8}, False),
        ({"TPU": 4, "GPU": 1}, False),
        ({"gpu": 1}, False),
    ],
)
def test_what_no_node_has_is_refused_with_what_there_is(
    resources: dict[str, float], room: bool
) -> None:
    nodes = [{"CPU": 8.0, "TPU": 4.0, "memory": 1e9, "node:10.0.0.1": 1.0}] * 2 + [
        {"CPU": 16.0, "GPU": 1.0}
    ]
    if room:
        require_room(resources, nodes, 2)
    else:
        with pytest.raises(
            ConfigError, match=r"Nodes: CPU: 8, TPU: 4 \(2 x\); CPU: 16, GPU: 1 \(1 x\)"
        ):
            require_room(resources, nodes, 2)


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [(4, 2, [[0, 1], [2, 3]]), (5, 2, [[0, 1], [2, 3]]), (2, 3, [[0], [1], [0]])],
)
def test_workers_have_equal_shares_of_the_cores(
    cores: int, workers: int, expected: list[list[int]]
) -> None:
    assert shares(range(cores), workers) == expected


def test_hosts_that_train_together_have_no_workers() -> None:
    with pytest.raises(ConfigError, match=r"sweep\.workers=1 executor=local"):
        compose(["distributed.coordinator=a:1", "distributed.hosts=2", "sweep.workers=2"])
