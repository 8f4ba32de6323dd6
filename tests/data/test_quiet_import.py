"""TensorFlow's noise is held back while it is imported; nothing else is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import environment

SCRIPT = """
import os, sys
class Speaks:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            os.write(2, b"a warning of somebody else\\n"
                b"I0000 00:00:1795857166.361357   17061 port.cc:153] oneDNN\\n")
sys.meta_path.insert(0, Speaks())
import flowersweep.data
"""


@pytest.mark.slow
def test_only_the_noise_of_tensorflows_import_is_held_back() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert run.stderr == "a warning of somebody else\n"
