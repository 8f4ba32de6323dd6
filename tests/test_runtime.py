"""What a process computes on is decided once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowersweep.errors import ConfigError
from flowersweep.runtime import start
from tests.conftest import environment


def test_a_second_start_gives_what_is_running_or_says_why_not(tmp_path: Path) -> None:
    running = start()
    assert start(tmp_path) is running
    assert start(platform=running.platform) is running
    with pytest.raises(
        ConfigError,
        match=rf"computes on {running.platform} already, "
        r"and now other is asked for. Start the command",
    ):
        start(platform="other")
    with pytest.raises(
        ConfigError, match=r"is host 0 of 1 already, and now host 1 of 2 is asked for"
    ):
        start(coordinator="localhost:1", hosts=2, host=1)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("KERAS_BACKEND", "torch", "Keras runs on torch, flowersweep needs JAX"),
        ("JAX_PLATFORMS", "cuda", "JAX_PLATFORMS=cuda: mend it, or unset it"),
        ("JAX_PLATFORMS", "nonsense", "'nonsense' is not in the list of known backends"),
        ("JAX_ENABLE_X64", "maybe", "JAX_ENABLE_X64=maybe: mend it, or unset it"),
        ("XLA_FLAGS", "--nonsense", "Unknown flag in XLA_FLAGS: --nonsense"),
    ],
)
def test_a_wrong_setting_of_the_environment_gets_one_line(
    name: str, value: str, reason: str
) -> None:
    code = """
import sys
from flowersweep import runtime
from flowersweep.errors import ConfigError
try:
    runtime.require_libraries()
    runtime.start()
except ConfigError as error:
    sys.exit(str(error))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert reason in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert run.returncode == 1


def test_an_empty_choice_of_the_backend_is_jax() -> None:
    code = "import flowersweep, os; print(os.environ['KERAS_BACKEND'])"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), "KERAS_BACKEND": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "jax\n"
