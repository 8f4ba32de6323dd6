"""Hyperparameter sweeps and experiment tracking for image classification on TPU."""

import os

# The libraries read these when they are first imported, wherever that happens; what the user has
# set stays.
for _name, _value in (
    ("KERAS_BACKEND", "jax"),
    ("KERAS_NNX_ENABLED", "false"),
    ("TF_CPP_MIN_LOG_LEVEL", "2"),
):
    os.environ[_name] = os.environ.get(_name) or _value
