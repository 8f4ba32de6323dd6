"""Settings of JAX and Keras in the environment that keep them from starting."""

from __future__ import annotations

import os
import subprocess
import sys

from flowersweep.errors import ConfigError

_SETTINGS = ("JAX_", "XLA_", "KERAS_")  # how their names begin


def require_libraries() -> None:
    """Import JAX, for Keras to run on.

    Raises:
        ConfigError: A variable of the environment has a value that JAX does not take, or chooses
            another backend of Keras.
    """
    require_jax()
    _require_flags()
    try:
        import jax  # noqa: F401
    except (ImportError, ValueError) as error:
        raise ConfigError(f"JAX does not start: {error}{name_variables()}") from error


def _require_flags() -> None:
    """Raise ConfigError for a wrong flag of XLA, which would end this process on the spot."""
    if not os.environ.get("XLA_FLAGS"):
        return
    probe = "from jaxlib import xla_client; xla_client.make_cpu_client()"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    reasons = [line for line in run.stderr.splitlines() if "XLA_FLAGS" in line]
    if run.returncode and reasons:
        raise ConfigError(f"XLA does not start: {reasons[0].partition('] ')[2]}{name_variables()}")


def require_jax() -> None:
    """Raise ConfigError if Keras runs on another backend, or would."""
    backend = (
        sys.modules["keras"].backend.backend()
        if "keras" in sys.modules
        else os.environ["KERAS_BACKEND"]
    )
    if backend != "jax":
        raise ConfigError(
            f"Keras runs on {backend}, flowersweep needs JAX: set KERAS_BACKEND=jax before "
            "anything imports keras"
        )


def name_variables() -> str:
    """Return what to do about the settings of JAX and Keras in the environment; nothing without
    any.
    """
    names = {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_SETTINGS)}
    for ours in ("KERAS_BACKEND", "KERAS_NNX_ENABLED"):  # right, or refused before
        names.pop(ours, None)
    if not names:
        return ""
    named = ", ".join(f"{name}={value}" for name, value in names.items())
    return f". The environment has {named}: mend it, or unset it"
