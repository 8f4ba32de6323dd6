"""How busy the machine is while a study runs: processor, memory and disk, read from the system in well under a millisecond."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from flowersweep.runtime import device_memory

EVERY = 15.0  # seconds between two samples
MEGABYTE = 1e6


class MachineMonitor:
    """Measures now and then, by the names that MLflow has for its system metrics. What a system does not tell is left out."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._last, self._ticks = folder, time.monotonic(), _ticks()

    @property
    def due(self) -> bool:
        """Whether the last sample, or the beginning, is long enough ago."""
        return time.monotonic() - self._last >= EVERY

    def sample(self) -> dict[str, float]:
        """Return what is used now; of the processors, the share of time since the sample before."""
        found = {**_memory(), **device_memory()}
        disk = shutil.disk_usage(self._folder)
        found["disk_usage_percentage"] = 100 * disk.used / disk.total
        found["disk_available_megabytes"] = disk.free / MEGABYTE
        ticks = _ticks()
        if ticks and self._ticks and (passed := ticks[1] - self._ticks[1]) > 0:
            found["cpu_utilization_percentage"] = 100 * (ticks[0] - self._ticks[0]) / passed
        self._last, self._ticks = time.monotonic(), ticks
        return {name: round(value, 1) for name, value in found.items()}


def described() -> dict[str, str | int | None]:
    """Return the processor's name, how many of them this process may use, and the bytes of memory."""
    name = None
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    total = _kilobytes().get("MemTotal")
    return {"cpu": name, "cores": cores, "memory_bytes": None if total is None else total * 1024}


def _ticks() -> tuple[int, int] | None:
    """Return the ticks in which the processors were busy, and all of them."""
    try:
        with open("/proc/stat") as file:
            numbers = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(numbers) - sum(numbers[3:5]), sum(numbers)  # idle and waiting for a disk


def _memory() -> dict[str, float]:
    kilobytes, found = _kilobytes(), {}
    if {"MemTotal", "MemAvailable"} <= kilobytes.keys():
        used = kilobytes["MemTotal"] - kilobytes["MemAvailable"]
        found["system_memory_usage_megabytes"] = used * 1024 / MEGABYTE
        found["system_memory_usage_percentage"] = 100 * used / kilobytes["MemTotal"]
    with contextlib.suppress(OSError, ValueError, IndexError):
        found["process_memory_megabytes"] = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / MEGABYTE
    return found


def _kilobytes() -> dict[str, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    except (OSError, ValueError, IndexError):
        return {}
