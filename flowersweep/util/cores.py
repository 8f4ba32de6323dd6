"""The cores that this process may use."""

from __future__ import annotations

import os


def usable_cores() -> list[int]:
    """Return their numbers. macOS only says how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return [*range(os.cpu_count() or 1)]
