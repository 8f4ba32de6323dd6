"""Two hosts of four devices train as one host of eight does, and each decodes its share."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.__main__ import main
from flowersweep.config.compose import compose
from flowersweep.errors import ConfigError
from tests.conftest import ROOT, TINY
from tests.events import lines

TRAIN = """
import json, sys
from pathlib import Path
import numpy as np
from flowersweep.training import trial
from flowersweep.config.paths import with_settings
from flowersweep.data import pipeline
from flowersweep.runtime import start
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from tests.data.counting import counted
from tests.training.test_trial import FINETUNE

folder, coordinator = Path(sys.argv[1]), sys.argv[2] or None
hosts, host = int(sys.argv[3]), int(sys.argv[4])
runtime = start(coordinator=coordinator, hosts=hosts, host=host)
assert (runtime.replicas, runtime.hosts, runtime.host) == (8, hosts, host)
settings = {"train.batch_per_replica": 2, "train.batch_statistics": True, "train.head_epochs": 2,
            "data.cache_bytes": 0}
config = with_settings(FINETUNE, settings)
context = TrainingContext(runtime, folder / str(host), lambda what, done, total: None)
frozen, begun = trial.advance(config, Checkpoint(), 2, context)
with counted() as decoded:
    checkpoint, epochs = trial.advance(config, frozen, 4, context)
print(json.dumps({
    "losses": [epoch.metrics["train/loss"] for epoch in begun + epochs],
    "nll": [epoch.metrics["tune/nll"] for epoch in begun + epochs],
    "logits": {
        part: logits.tolist()
        for part, logits in trial.finish(config, checkpoint, context).logits.items()
    },
    "weights": [np.asarray(weight).ravel().tolist() for weight in checkpoint.state.trainable],
    "decoded": len(decoded),
}))
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment(devices: int) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    return {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}


def together(words: list[list[str]], devices: int, folder: Path) -> list[str]:
    """Run several processes of Python at the same time, which end when this does; return what each
    printed.
    """
    options: dict[str, Any] = {
        "env": environment(devices),
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    with ExitStack() as stack:
        started = []
        for each in words:
            started.append(
                stack.enter_context(
                    subprocess.Popen([sys.executable, *each], cwd=folder, **options)
                )
            )
            stack.callback(started[-1].kill)
        ended = [each.communicate(timeout=240) for each in started]
        for each, (_, said) in zip(started, ended, strict=True):
            assert each.returncode == 0, said
        return [printed for printed, _ in ended]


Told = dict[str, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, list[Told]]:
    """What was told of one host with eight devices, and by each of two with four, which share no
    folder.
    """
    folder, coordinator = tmp_path_factory.mktemp("hosts"), f"127.0.0.1:{free_port()}"
    alone = together([["-c", TRAIN, str(folder / "alone"), "", "1", "0"]], 8, folder)
    pair = together(
        [["-c", TRAIN, str(folder / "pair"), coordinator, "2", str(host)] for host in (0, 1)],
        4,
        folder,
    )
    first, *others = (json.loads(printed.splitlines()[-1]) for printed in alone + pair)
    return first, others


@pytest.mark.slow
def test_two_hosts_train_as_one_in_both_stages(trained: tuple[Told, list[Told]]) -> None:
    alone, pair = trained
    assert len(set(alone["losses"])) == 4  # it did train
    for host in pair:
        np.testing.assert_allclose(host["losses"], alone["losses"], rtol=1e-6)
        np.testing.assert_allclose(host["nll"], alone["nll"], rtol=1e-6)
        for part, logits in alone["logits"].items():
            np.testing.assert_allclose(host["logits"][part], logits, rtol=1e-4, atol=1e-5)
        for own, theirs in zip(host["weights"], pair[0]["weights"], strict=True):
            assert own == theirs  # all hosts have the same, to the bit


@pytest.mark.slow
def test_each_host_decodes_its_share(trained: tuple[Told, list[Told]]) -> None:
    alone, pair = trained
    # 2 epochs of 2 batches of 16; and the 15 images of tune, all of them in host 0's half of one
    # batch of 256
    assert alone["decoded"] == 2 * (32 + 15)
    assert [host["decoded"] for host in pair] == [2 * (16 + 15), 2 * 16]


@pytest.mark.slow
def test_a_search_on_two_hosts_is_kept_by_the_first(project: Path) -> None:
    words = [
        "-m",
        "flowersweep",
        "+sweep=quick",
        *TINY,
        "train=finetune",
        "train.epochs=2",
        "train.batch_per_replica=2",
        "sweep.n_trials=2",
    ]
    words += [
        "tracking.enabled=false",
        "distributed.hosts=2",
        f"distributed.coordinator=127.0.0.1:{free_port()}",
    ]
    first, second = together(
        [[*words, f"distributed.host={host}", f"dir=host{host}"] for host in (0, 1)], 4, project
    )
    assert "2 trials: 2 complete" in first
    assert "host 0 has its results" in second
    events = lines(project / "host0" / "studies" / "quick" / "journal.jsonl")
    assert [event["state"] for event in events if event["event"] == "trial_ended"] == [
        "complete"
    ] * 2
    assert [path.name for path in (project / "host1").iterdir()] == ["cache"]
    assert not (project / "host1" / "cache" / "features").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["distributed.hosts=2"], "several hosts need distributed.coordinator"),
        (
            ["distributed.coordinator=a:1", "distributed.hosts=2", "distributed.host=2"],
            "hosts are counted from 0",
        ),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compose(words)


def test_a_verb_of_one_host_refuses_several(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "distributed.coordinator=a:1", "distributed.hosts=2"]) == 1
    assert "leave it out for predict" in capsys.readouterr().err
