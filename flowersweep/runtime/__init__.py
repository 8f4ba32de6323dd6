"""TPU, GPU or CPU, on one host or several: what this process computes on."""

from flowersweep.runtime.compile_count import compiles, compiles_here
from flowersweep.runtime.devices import (
    Runtime,
    device_bytes,
    device_memory,
    device_room,
    runtime_of,
)
from flowersweep.runtime.environment import require_libraries
from flowersweep.runtime.starting import restored_settings, start

__all__ = [
    "Runtime",
    "compiles",
    "compiles_here",
    "device_bytes",
    "device_memory",
    "device_room",
    "require_libraries",
    "restored_settings",
    "runtime_of",
    "start",
]
