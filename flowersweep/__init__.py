"""Hyperparameter sweeps and experiment tracking for image classification on TPU."""

import os

# Both libraries read these when they are first imported, wherever that happens; a variable that the
# user has set stays.
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("KERAS_NNX_ENABLED", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
