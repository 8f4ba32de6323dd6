"""TPU, GPU or CPU, on one host or several: what this process computes on, how arrays get there, and
how often it compiled.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowersweep.errors import ConfigError
from flowersweep.util.secret_name import secret_name

if TYPE_CHECKING:
    from jax import Array, Device
    from jax.sharding import NamedSharding

_GOODBYE = 30  # seconds that a host which has ended waits for the others to end too
_SHORT = 4096  # bytes of a message between hosts
_SETTINGS = ("JAX_", "XLA_", "KERAS_")  # of the environment, by their first letters
_OURS = (  # of JAX: what `start` sets
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
    "jax_platforms",
)
_compiles = 0
_here = threading.local()
_running: Runtime | None = None


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

    @property
    def precision(self) -> str:
        """The Keras policy of backbones: bfloat16 where the hardware is made for it."""
        return "mixed_bfloat16" if self.platform == "tpu" else "float32"

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


def start(
    cache: Path | None = None,
    *,
    coordinator: str | None = None,
    hosts: int = 1,
    host: int = 0,
    platform: str | None = None,
) -> Runtime:
    """Choose JAX, leave the accelerator to it, keep compiled programs in ``cache``, in a folder
    whose name only this user knows; return what there is.

    With a ``coordinator`` (the address of host 0 and a free port there, or ``auto`` on a TPU pod,
    which knows its own hosts) this process joins the others, and returns when all ``hosts`` are
    there. With a ``platform`` (cpu) it leaves other devices alone. A process starts once; another
    call returns what is running. Raises ConfigError if Keras already runs on another backend, if
    the hosts do not find each other, or if what is running is not what is asked for.
    """
    global _running
    import jax

    if _running is not None:
        _require_fit(_running, coordinator, hosts, host, platform)
    if cache is not None:
        # A program is machine code: of a cache that came with a stranger's folder none may run.
        jax.config.update("jax_compilation_cache_dir", str(cache.resolve() / secret_name()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if _running is not None:
        return _running
    if platform is not None:
        jax.config.update("jax_platforms", platform)
    _count_compiles()
    _require_jax()
    if coordinator is not None:
        _join(coordinator, hosts, host)
    # a host's rows of a batch lie together
    devices = sorted(_devices(), key=lambda device: (device.process_index, device.id))
    if len(devices) != jax.process_count() * jax.local_device_count():
        raise ConfigError(
            f"{jax.process_count()} hosts have {len(devices)} devices together: all must "
            "have as many as the others"
        )
    mesh = jax.sharding.Mesh(devices, ("replica",))
    spec = jax.sharding.PartitionSpec
    _running = Runtime(
        platform=devices[0].platform,
        device_kind=devices[0].device_kind,
        replicas=len(devices),
        batch_sharding=jax.sharding.NamedSharding(mesh, spec("replica")),
        replicated=jax.sharding.NamedSharding(mesh, spec()),
        hosts=jax.process_count(),
        host=jax.process_index(),
    )
    return _running


@contextmanager
def restored_settings() -> Iterator[None]:
    """Within it `start` may set up JAX; afterwards JAX has the settings that it had before.

    Only the devices that JAX computes on stay as they are: it chooses them once.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    before = {name: getattr(jax.config, name) for name in _OURS}
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # it would go on in the folder that it began with


def require_libraries() -> None:
    """Import JAX, for Keras to run on.

    Raises:
        ConfigError: A variable of the environment has a value that JAX does not take, or chooses
            another backend of Keras.
    """
    _require_jax()
    _require_flags()
    try:
        import jax  # noqa: F401
    except (ImportError, ValueError) as error:
        raise ConfigError(f"JAX does not start: {error}{_variables()}") from error


def _require_flags() -> None:
    """Raise ConfigError for a wrong flag of XLA, which would end this process on the spot."""
    if not os.environ.get("XLA_FLAGS"):
        return
    probe = "from jaxlib import xla_client; xla_client.make_cpu_client()"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    reasons = [line for line in run.stderr.splitlines() if "XLA_FLAGS" in line]
    if run.returncode and reasons:
        raise ConfigError(f"XLA does not start: {reasons[0].partition('] ')[2]}{_variables()}")


def _devices() -> list[Device]:
    """Return all devices. Raises ConfigError if JAX cannot compute on what was chosen."""
    import jax

    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that one of its platforms works
        reason = (str(error).splitlines() or ["no such device"])[0]
        raise ConfigError(f"JAX finds nothing to compute on: {reason}{_variables()}") from error


def _variables() -> str:
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


def _require_fit(
    running: Runtime, coordinator: str | None, hosts: int, host: int, platform: str | None
) -> None:
    """Raise ConfigError if a process that has started cannot be what is asked for."""
    own = "Start the command in a process of its own"
    if platform not in (None, running.platform):
        raise ConfigError(
            f"this process computes on {running.platform} already, and now {platform} is "
            f"asked for. {own}"
        )
    if coordinator not in (None, "auto") and (hosts, host) != (running.hosts, running.host):
        raise ConfigError(
            f"this process is host {running.host} of {running.hosts} already, and now host "
            f"{host} of {hosts} is asked for. {own}"
        )


def _join(coordinator: str, hosts: int, host: int) -> None:
    """Wait for the other hosts. Nothing may have been computed before."""
    import jax

    named: dict[str, Any] = (
        {}
        if coordinator == "auto"
        else {"coordinator_address": coordinator, "num_processes": hosts, "process_id": host}
    )
    try:
        jax.distributed.initialize(**named, shutdown_timeout_seconds=_GOODBYE)
    except (RuntimeError, ValueError) as error:
        where = (
            "auto works on TPU pods; elsewhere name host 0"
            if coordinator == "auto"
            else f"host {host} of {hosts}"
        )
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"distributed.coordinator={coordinator} ({where}): the hosts do not find each "
            f"other: {reason}"
        ) from error


@contextmanager
def low_latency_gc() -> Iterator[None]:
    """Keep trials from waiting for Python.

    Its collector is kept off the millions of objects that the libraries brought: each full pass
    over them stops a trial for .3 s. And a thread whose epoch is done has the interpreter after
    half a millisecond, where it waits for 5 by default, many times a trial.
    """
    before, patience = gc.get_threshold(), sys.getswitchinterval()
    gc.freeze()
    gc.set_threshold(20_000, *before[1:])
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(patience)
        gc.set_threshold(*before)
        gc.unfreeze()


def _require_jax() -> None:
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


@lru_cache(maxsize=1)
def _count_compiles() -> None:
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


def device_bytes() -> int | None:
    """Return the memory of an accelerator of this host; None of a CPU."""
    import jax

    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    return int(stats["bytes_limit"]) if stats and "bytes_limit" in stats else None
