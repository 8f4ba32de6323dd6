"""Hosts that train one trial together, on machines that are really apart."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TINY, tiny_model
from tests.events import story
from tests.execution.test_workers import events
from tests.machines import Machine, Switch, machines_apart
from tests.waiting import wait_for

pytestmark = pytest.mark.apart

WORDS = [
    "+sweep=quick",
    *TINY,
    "train=finetune",
    "train.epochs=20",
    "train.batch_per_replica=2",
    "train.checkpoint_interval_s=1",
    "sweep.n_trials=2",
    "sweep.report_interval_epochs=4",
    "pruner=none",
    "tracking.enabled=false",
    "distributed.hosts=2",
]
Lab = tuple[list[Machine], Switch]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two machines."""
    with machines_apart(tmp_path_factory.mktemp("disks"), "one", "two") as (machines, switch):
        for machine in machines:
            tiny_model(machine.disk)
        yield machines, switch


def begin(machines: list[Machine], study: str) -> list[subprocess.Popen[str]]:
    """Start a study, or go on with it; the first machine keeps it."""
    devices = "XLA_FLAGS=--xla_force_host_platform_device_count=2"
    where = f"distributed.coordinator={machines[0].address}:8476"
    python = ["env", devices, "JAX_PLATFORMS=cpu", sys.executable, "-m", "flowersweep"]
    started = []
    for host, machine in enumerate(machines):
        words = [*WORDS, f"study={study}", where, f"distributed.host={host}"]
        with (machine.disk / f"{study}.log").open("a") as log:
            started.append(machine.start(*python, *words, stdout=log, stderr=log))
    return started


def ended(processes: list[subprocess.Popen[str]]) -> list[int]:
    """Wait for hosts, none of which may stay behind; return how they ended."""
    return [process.wait(200) for process in processes]


def study_of(machine: Machine, study: str) -> Path:
    return machine.disk / "mlruns" / "studies" / study


def wait_for_reports(processes: list[subprocess.Popen[str]], folder: Path) -> None:
    """Wait until a study has reported twice."""

    def reported() -> bool:
        kinds = [event["event"] for event in events(folder)]
        return kinds.count("epochs_reported") > 1

    wait_for(lambda: reported() or any(each.poll() is not None for each in processes), 200)
    assert reported(), "a host ended before it reported"


def test_hosts_whose_link_is_cut_or_that_are_lost_give_what_undisturbed_ones_give(
    lab: Lab,
) -> None:
    machines, switch = lab
    assert ended(begin(machines, "whole")) == [0, 0]
    whole = story(study_of(machines[0], "whole"))

    hosts = begin(machines, "cut")
    wait_for_reports(hosts, study_of(machines[0], "cut"))
    switch.cut = {1}
    time.sleep(5)
    switch.cut = set()
    assert ended(hosts) == [0, 0]
    assert story(study_of(machines[0], "cut")) == whole

    hosts = begin(machines, "lost")
    wait_for_reports(hosts, study_of(machines[0], "lost"))
    switch.cut = {1}
    assert 0 not in ended(hosts)  # both notice
    switch.cut = set()
    # the study goes on with the other machine as its first
    study_of(machines[1], "lost").parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(study_of(machines[0], "lost"), study_of(machines[1], "lost"))
    assert ended(begin(machines[::-1], "lost")) == [0, 0]
    assert story(study_of(machines[1], "lost")) == whole
