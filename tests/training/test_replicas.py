"""Eight devices train as one does: with the same global batch, statistics of normalisation
included.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT

TRAIN = """
import sys
from pathlib import Path
from flowersweep.training import trial
from flowersweep.config.paths import with_settings
from flowersweep.runtime import start
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from tests.training.test_trial import FINETUNE

folder, per_replica = Path(sys.argv[1]), int(sys.argv[2])
context = TrainingContext(start(), folder / "cache", lambda what, done, total: None)
settings = {"train.batch_per_replica": per_replica, "train.batch_statistics": True}
config = with_settings(FINETUNE, settings)
checkpoint, epochs = trial.advance(config, Checkpoint(), 3, context)
assert context.batch(config) == 16
assert trial.finish(config, checkpoint, context).logits["tune"].shape == (15, 5)
checkpoint.save(folder / f"{context.runtime.replicas}.npz")
"""


@pytest.mark.slow
def test_eight_replicas_give_the_weights_of_one(tmp_path: Path) -> None:
    for replicas in (1, 8):
        flags = f"--xla_force_host_platform_device_count={replicas}"
        environment = {
            **os.environ,
            "XLA_FLAGS": flags,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
        }
        run = subprocess.run(
            [sys.executable, "-c", TRAIN, str(tmp_path), str(16 // replicas)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
    with np.load(tmp_path / "1.npz") as one, np.load(tmp_path / "8.npz") as eight:
        assert one.files == eight.files
        moved = 0
        for name in set(one.files) - {"about"}:
            np.testing.assert_allclose(one[name], eight[name], rtol=1e-5, atol=1e-6, err_msg=name)
            moved += one[name].size
    assert moved > 1000
