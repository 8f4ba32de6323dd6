"""What a user has written into keras.json does not change the numbers of a study."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = {
    "floatx": "float16",
    "epsilon": 0.1,
    "backend": "tensorflow",
    "image_data_format": "channels_first",
    "nnx_enabled": True,
}
SHOW = """
import flowersweep.models, keras
layer = keras.layers.Conv2D(2, 3)
print(keras.config.epsilon(), keras.config.backend(), layer.data_format, layer.dtype,
      keras.config.is_nnx_enabled())
"""


@pytest.mark.slow
def test_the_users_keras_json_does_not_change_a_network(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(json.dumps(SETTINGS))
    environment = {**os.environ, "KERAS_HOME": str(tmp_path)}
    environment.pop("KERAS_BACKEND", None)
    shown = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["1e-07", "jax", "channels_last", "float32", "False"]
