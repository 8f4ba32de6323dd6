"""What is computed on, and how arrays get there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowersweep.errors import ConfigError

if TYPE_CHECKING:
    from jax import Array
    from jax.sharding import NamedSharding

_SHORT = 4096  # bytes of a message between hosts


@dataclass(frozen=True)
class Runtime:
    """What is computed on. The global batch is ``batch_per_replica * replicas``.

    On several hosts one process runs on each, with the same calls in the same order: most methods
    here wait for the others.
    """

    platform: str  # cpu, gpu or tpu
    device_kind: str
    replicas: int  # devices of all hosts together
    batch_sharding: NamedSharding  # an array cut along its first axis over the replicas
    replicated: NamedSharding  # an array that every replica holds
    hosts: int = 1
    host: int = 0  # which of them this process is
    fast: str = "float32"  # the precision that the devices are made for

    def precision(self, asked: str) -> str:
        """Return what backbones compute in where this was asked for: float32 or bfloat16."""
        return self.fast if asked == "auto" else asked

    @property
    def share(self) -> tuple[int, int]:
        """Which part of each batch this host reads, and of how many."""
        return self.host, self.hosts

    def shard_batch(self, rows: Any) -> Array:
        """Put this host's rows of a batch (batch / hosts, ...) on its devices; return the whole
        batch, cut over all replicas.
        """
        import jax

        placed: Array = (
            jax.make_array_from_process_local_data(self.batch_sharding, rows)
            if self.hosts > 1
            else jax.device_put(rows, self.batch_sharding)
        )
        return placed

    def replicate(self, tree: Any) -> Any:
        """Put arrays that are the same on all hosts on every replica."""
        import jax

        if self.hosts == 1:
            return jax.device_put(tree, self.replicated)
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(
                self.replicated, np.asarray(x), np.shape(x)
            ),
            tree,
        )

    def gather(self, array: Array) -> np.ndarray:
        """Return the whole of an array, also where other hosts hold parts of it."""
        from jax.experimental import multihost_utils

        if array.is_fully_addressable or array.is_fully_replicated:
            return np.asarray(array)
        gathered: np.ndarray = multihost_utils.process_allgather(array, tiled=True)
        return gathered

    def broadcast_bytes(self, message: bytes | None) -> bytes:
        """Return the message of host 0; what the others give does not count."""
        from jax.experimental import multihost_utils

        if self.hosts == 1:
            return message or b""
        own = message if message and self.host == 0 else b""
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(own))))
        room = max(_SHORT, 1 << (length - 1).bit_length())  # few sizes, few programs
        sent = multihost_utils.broadcast_one_to_all(np.frombuffer(own.ljust(room, b"\0"), np.uint8))
        return bytes(sent[:length].tobytes())

    def require_same(self, what: str, value: str) -> None:
        """Raise ConfigError, on all hosts, if ``value`` is not what it is on host 0."""
        from jax.experimental import multihost_utils

        theirs = self.broadcast_bytes(value.encode()).decode()
        if self.hosts > 1 and not np.all(
            multihost_utils.process_allgather(np.bool_(theirs == value))
        ):
            own = (
                f"{value} here on host {self.host}"
                if theirs != value
                else "something else on another"
            )
            raise ConfigError(f"{what} must be the same on all hosts: {theirs} on host 0, {own}")


def runtime_of(devices: Sequence[Any], *, hosts: int = 1, host: int = 0) -> Runtime:
    """Return devices of the same kind as a runtime, a replica on each."""
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(devices), ("replica",))
    return Runtime(
        platform=devices[0].platform,
        device_kind=devices[0].device_kind,
        replicas=len(devices),
        batch_sharding=NamedSharding(mesh, PartitionSpec("replica")),
        replicated=NamedSharding(mesh, PartitionSpec()),
        hosts=hosts,
        host=host,
        fast=fast_precision(devices[0]),
    )


def fast_precision(device: Any) -> str:
    """Return bfloat16 for a TPU and for a GPU that computes in it, else float32."""
    if device.platform != "gpu":
        return "bfloat16" if device.platform == "tpu" else "float32"
    capability = str(getattr(device, "compute_capability", "0"))  # 9.0 of an H100, 7.5 of a T4
    if capability.startswith("gfx"):  # AMD's: of the MI100 and later
        return "float32" if capability in ("gfx900", "gfx906") else "bfloat16"
    return "bfloat16" if float(capability) >= 8 else "float32"


def device_memory() -> dict[str, float]:
    """Return the megabytes in use on each accelerator of this host, by MLflow's names; nothing of a
    CPU, whose memory is the machine's.
    """
    import jax

    used = {}
    for number, device in enumerate(jax.local_devices()):
        stats = device.memory_stats() if device.platform != "cpu" else None
        if stats and "bytes_in_use" in stats:
            used[f"{device.platform}_{number}_memory_usage_megabytes"] = stats["bytes_in_use"] / 1e6
    return used


def device_room() -> int | None:
    """Return the bytes that were never in use on any accelerator of this host; None of a CPU."""
    import jax

    rooms = []
    for device in jax.local_devices():
        stats = device.memory_stats() if device.platform != "cpu" else None
        if not stats or not {"bytes_limit", "peak_bytes_in_use"} <= stats.keys():
            return None
        rooms.append(stats["bytes_limit"] - stats["peak_bytes_in_use"])
    return int(min(rooms))


def device_bytes() -> int | None:
    """Return the memory of an accelerator of this host; None of a CPU."""
    import jax

    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    return int(stats["bytes_limit"]) if stats and "bytes_limit" in stats else None
