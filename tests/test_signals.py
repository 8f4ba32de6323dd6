"""A polite end is an interrupt, and a command that nohup has started outlives its terminal."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import environment

WAIT = """
import os, signal
from flowersweep.signals import install_handlers
signal.signal(signal.SIGHUP, signal.SIG_{before})
install_handlers()
try:
    os.kill(os.getpid(), signal.SIG{name})
    print("goes on")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("name", "before", "outcome"),
    [
        ("INT", "DFL", "interrupted"),
        ("TERM", "DFL", "interrupted"),
        ("HUP", "DFL", "interrupted"),
        ("HUP", "IGN", "goes on"),
    ],
)
def test_a_signal_interrupts_a_command_unless_nohup_started_it(
    name: str, before: str, outcome: str
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WAIT.format(name=name, before=before)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"{outcome}\n"
