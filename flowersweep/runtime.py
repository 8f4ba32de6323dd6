"""TPU, GPU or CPU: what this process computes on, and how often it compiled."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from flowersweep.errors import ConfigError

if TYPE_CHECKING:
    from jax.sharding import NamedSharding

_compiles = 0


@dataclass(frozen=True)
class Runtime:
    """What is computed on. The global batch is ``batch_per_replica * replicas``."""

    platform: str  # cpu, gpu or tpu
    device_kind: str
    replicas: int
    split: NamedSharding  # an array cut along its first axis over the replicas
    whole: NamedSharding  # an array that every replica holds

    @property
    def precision(self) -> str:
        """The Keras policy that backbones compute in: bfloat16 where the hardware is made for it."""
        return "mixed_bfloat16" if self.platform == "tpu" else "float32"


@lru_cache(maxsize=1)
def start(cache: Path | None = None) -> Runtime:
    """Choose JAX, leave the accelerator to it, keep compiled programs in ``cache``; return what there is.

    Raises ConfigError if Keras already runs on another backend.
    """
    import jax

    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache.resolve()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _count_compiles()
    _require_jax()
    devices = jax.devices()
    mesh = jax.sharding.Mesh(devices, ("replica",))
    spec = jax.sharding.PartitionSpec
    return Runtime(
        platform=devices[0].platform,
        device_kind=devices[0].device_kind,
        replicas=len(devices),
        split=jax.sharding.NamedSharding(mesh, spec("replica")),
        whole=jax.sharding.NamedSharding(mesh, spec()),
    )


def _require_jax() -> None:
    backend = sys.modules["keras"].backend.backend() if "keras" in sys.modules else os.environ["KERAS_BACKEND"]
    if backend != "jax":
        raise ConfigError(f"Keras runs on {backend}, flowersweep needs JAX: set KERAS_BACKEND=jax before anything imports keras")


@lru_cache(maxsize=1)
def _count_compiles() -> None:
    import jax

    jax.monitoring.register_event_duration_secs_listener(_count)


def _count(event: str, duration_secs: float, **_: str | int) -> None:
    global _compiles
    if event == "/jax/core/compile/backend_compile_duration":
        _compiles += 1


def compiles() -> int:
    """Return how many programs this process has compiled, or loaded from the compile cache, since `start`."""
    return _compiles
