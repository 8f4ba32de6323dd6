"""The training core needs NumPy, JAX and Keras alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment

BENCH = Path(__file__).parents[2] / "bench" / "accelerator.py"
REFUSED = ("tensorflow", "mlflow", "optuna", "hydra", "omegaconf", "PIL", "psutil", "sklearn")
REFUSE = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {REFUSED}:
            raise ImportError(f"this machine has no {{name}}")
sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.slow
def test_the_bench_of_accelerators_trains_where_nothing_else_is_installed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(REFUSE)
    words = ["--networks", "tiny", "--size", "32", "--batch", "4", "--steps", "2", "--minutes", "4"]
    run = subprocess.run(
        [sys.executable, BENCH, *words],
        env=environment() | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert [re.sub(r"\[\d/4\] |: .*", "", line) for line in lines] == [
        "matmul",
        "tiny:bfloat16",
        "tiny:float32",
        "heads",
    ]
    assert all("of the limit" in line and "0 programs" in line for line in lines[1:3])
    assert "0 programs after the first" in lines[3]
