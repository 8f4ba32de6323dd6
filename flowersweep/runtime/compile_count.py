"""How many programs this process has compiled."""

from __future__ import annotations

import threading
from functools import lru_cache

_compiles = 0
_here = threading.local()


@lru_cache(maxsize=1)
def count_compiles() -> None:
    """Count from now on."""
    import jax

    jax.monitoring.register_event_duration_secs_listener(_count)


def _count(event: str, duration_secs: float, **_: str | int) -> None:
    global _compiles
    if event == "/jax/core/compile/backend_compile_duration":
        _compiles += 1
        _here.compiles = compiles_here() + 1


def compiles() -> int:
    """Return how many programs this process has compiled, or loaded from the compile cache, since
    `start`.
    """
    return _compiles


def compiles_here() -> int:
    """Return how many of them this thread has compiled."""
    return getattr(_here, "compiles", 0)
