"""How busy the machine is while a study runs: processor, memory and disk."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import psutil

from flowersweep.runtime import device_memory
from flowersweep.util.cores import usable_cores

INTERVAL_S = 15.0  # between two samples
MEGABYTE = 1e6


class MachineMonitor:
    """Measures now and then, by the names that MLflow has for its system metrics."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._last = folder, time.monotonic()
        psutil.cpu_percent()  # the next call measures since this one

    @property
    def due(self) -> bool:
        """Whether the last sample is long enough ago."""
        return time.monotonic() - self._last >= INTERVAL_S

    def sample(self) -> dict[str, float]:
        """Return what is used now; of the processors, the share of time since the last sample."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder))
        self._last = time.monotonic()
        metrics = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": (memory.total - memory.available) / MEGABYTE,
            "system_memory_usage_percentage": memory.percent,
            "process_memory_megabytes": psutil.Process().memory_info().rss / MEGABYTE,
            "disk_usage_percentage": disk.percent,
            "disk_available_megabytes": disk.free / MEGABYTE,
            **device_memory(),
        }
        return {name: round(value, 1) for name, value in metrics.items()}


def describe_machine() -> dict[str, str | int | None]:
    """Return the processor's name, the number of cores for this process, and bytes of memory."""
    return {
        "cpu": _processor() or platform.processor() or platform.machine(),
        "cores": len(usable_cores()),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _processor() -> str | None:
    """Return the processor's name on Linux, where `platform` does not know it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)
