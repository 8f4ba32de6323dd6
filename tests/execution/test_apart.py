"""A study on machines that are really apart: nothing is lost, doubled or stuck, whatever fails.

The store has PostgreSQL, MLflow's server and the head of a Ray cluster; one and two train. The
coordinator runs on one. Three takes the place of two when that is cut off for good. What each
failure costs is in docs/workers.md.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

from tests.conftest import TINY, tiny_model
from tests.execution.test_workers import events, require_whole
from tests.machines import Machine, Switch, machines_apart
from tests.postgres import LOGIN, find_binaries
from tests.waiting import wait_for

pytestmark = pytest.mark.apart

TRIALS = 10
WORDS = [
    "+sweep=smoothing",
    *TINY,
    "train=finetune",
    "train.epochs=200",
    "train.checkpoint_interval_s=1",
    "pruner=none",
    "sampler=random",
    "sweep.report_interval_epochs=10",
    f"sweep.n_trials={TRIALS}",
    "sweep.workers=2",
    "executor=ray",
    "executor.resources={chip: 4}",
]
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
DATABASE = f"""
chown nobody /mnt/data
as_nobody() {{ setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; }}
as_nobody "$1/initdb" -D /mnt/data -U {LOGIN} --auth=trust -E UTF8 --locale=C --no-sync
as_nobody "$1/pg_ctl" -D /mnt/data -w -o "-k /mnt/data -F" -l /mnt/data/log start
"""
RUNS = f"""
import psycopg
with psycopg.connect("host=127.0.0.1 user={LOGIN} dbname=postgres") as connection:
    for row in connection.execute(
        "SELECT runs.status, tags.value FROM runs JOIN experiments USING (experiment_id)"
        " JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'flowersweep.trial'"
        " WHERE experiments.name LIKE '%STUDY%' ORDER BY tags.value"
    ):
        print(*row)
"""


@dataclass
class Lab:
    """The machines, what joins them, and where MLflow is."""

    store: Machine
    one: Machine
    two: Machine
    three: Machine
    switch: Switch
    tracking: str

    def join_cluster(self, machine: Machine) -> None:
        """Have a machine join the cluster, with one worker's resources."""
        words = [f"--address={self.store.address}:6379", "--num-cpus=1", '--resources={"chip": 4}']
        start_ray(machine, *words)

    def coordinate(self, machine: Machine, study: str) -> subprocess.Popen[str]:
        """Start a study, or go on with it."""
        words = [f"executor.address={self.store.address}:6379", f"tracking.uri={self.tracking}"]
        with (machine.disk / f"{study}.log").open("a") as log:
            return machine.start(
                *["env", "RAY_TMPDIR=/mnt/ray", sys.executable, "-m", "flowersweep"],
                *[*WORDS, *words, f"study={study}"],
                stdout=log,
                stderr=log,
            )

    def require_whole(self, machine: Machine, study: str) -> None:
        """Every trial was asked for, reported and ended once, and is one run of MLflow."""
        ended = require_whole(machine.disk / "mlruns" / "studies" / study, TRIALS)
        assert {event["state"] for event in ended} == {"complete"}
        runs = self.store.run(sys.executable, "-c", RUNS.replace("STUDY", study))
        assert runs.splitlines() == [f"FINISHED {number}" for number in range(TRIALS)]


def start_store(machine: Machine) -> str:
    """Start PostgreSQL, and MLflow's server on it; return the server's address."""
    programs = find_binaries()
    if programs is None or not find_spec("psycopg"):
        pytest.skip("no PostgreSQL here: apt-get install postgresql; pip install 'psycopg[binary]'")
    (machine.disk / "data").mkdir()
    machine.run("sh", "-ec", DATABASE, "database", str(programs))
    words = ["--host", "0.0.0.0", "--port", "5000", "--workers", "1", "--allowed-hosts", "*"]
    words += ["--backend-store-uri", f"postgresql+psycopg://{LOGIN}@127.0.0.1/postgres"]
    words += ["--artifacts-destination", "/mnt/artifacts"]
    quiet = ["MLFLOW_DISABLE_TELEMETRY=true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"]
    with (machine.disk / "mlflow.log").open("w") as log:
        machine.start(
            *["env", *quiet, sys.executable, "-m", "mlflow", "server", *words],
            stdout=log,
            stderr=log,
        )
    return f"http://{machine.address}:5000"


def start_ray(machine: Machine, *words: str) -> None:
    """Start Ray on a machine."""
    common = ["--disable-usage-stats", "--object-store-memory=100000000"]
    common += [f"--node-ip-address={machine.address}", *words]
    machine.run("env", "RAY_TMPDIR=/mnt/ray", *RAY, "start", *common)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The cluster; each link delays every frame by 20 ms and loses one of a hundred."""
    pytest.importorskip("ray")
    names = "store", "one", "two", "three"
    with machines_apart(tmp_path_factory.mktemp("disks"), *names) as (machines, switch):
        lab = Lab(*machines, switch, start_store(machines[0]))
        start_ray(lab.store, "--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false")
        for machine in machines[1:]:
            tiny_model(machine.disk)
        for machine in (lab.one, lab.two):
            lab.join_cluster(machine)
        switch.delay_s, switch.loss = 0.02, 0.01
        yield lab


def wait_for_reports(process: subprocess.Popen[str], machine: Machine, study: str) -> None:
    """Wait until both workers have reported."""
    folder = machine.disk / "mlruns" / "studies" / study

    def reported() -> bool:
        workers = {event["worker"] for event in events(folder) if "worker" in event}
        return process.poll() is not None or len(workers) > 1

    wait_for(reported, 150)
    assert process.poll() is None, (machine.disk / f"{study}.log").read_text()


def cut_for_seconds(lab: Lab) -> None:
    for place, seconds in ((2, 5), (0, 20)):
        lab.switch.cut = {place}
        time.sleep(seconds)
        lab.switch.cut = set()


def pause_for_a_minute(lab: Lab) -> None:
    lab.two.signal("STOP")
    time.sleep(60)
    lab.two.signal("CONT")


def cut_for_good(lab: Lab) -> None:
    lab.switch.cut = {2}


@pytest.mark.parametrize("fail", [cut_for_seconds, pause_for_a_minute, cut_for_good])
def test_a_study_ends_whole_whatever_happens_to_its_links_and_workers(
    fail: Callable[[Lab], None], lab: Lab
) -> None:
    study = fail.__name__
    process = lab.coordinate(lab.one, study)
    try:
        wait_for_reports(process, lab.one, study)
        fail(lab)
        assert process.wait(240) == 0, (lab.one.disk / f"{study}.log").read_text()
    finally:
        process.kill()
    lab.require_whole(lab.one, study)


def test_another_machine_takes_a_study_up_with_a_copy_of_its_folder(lab: Lab) -> None:
    lab.two.kill()
    lab.join_cluster(lab.three)
    process = lab.coordinate(lab.one, "taken")
    wait_for_reports(process, lab.one, "taken")
    lab.one.kill()
    assert process.wait(10)
    before = events(lab.one.disk / "mlruns" / "studies" / "taken")
    folder = lab.three.disk / "mlruns" / "studies" / "taken"
    shutil.copytree(lab.one.disk / "mlruns" / "studies" / "taken", folder)
    assert lab.coordinate(lab.three, "taken").wait(240) == 0, (
        lab.three.disk / "taken.log"
    ).read_text()
    assert events(folder)[: len(before)] == before
    lab.require_whole(lab.three, "taken")
