"""The one start of JAX in a process, alone or together with other hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowersweep.errors import ConfigError
from flowersweep.runtime.compile_count import count_compiles
from flowersweep.runtime.devices import Runtime, runtime_of
from flowersweep.runtime.environment import name_variables, require_jax
from flowersweep.util.secret_name import secret_name

if TYPE_CHECKING:
    from jax import Device

_GOODBYE = 30  # seconds that a host which has ended waits for the others to end too
_OURS = (  # of JAX: what `start` sets
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
    "jax_platforms",
)
_running: Runtime | None = None


def start(
    cache: Path | None = None,
    *,
    coordinator: str | None = None,
    hosts: int = 1,
    host: int = 0,
    platform: str | None = None,
) -> Runtime:
    """Start JAX, once in a process; another call returns what is running.

    Args:
        cache: Where compiled programs are kept, in a folder whose name only this user knows.
        coordinator: The address of host 0 and a free port there, or ``auto`` on a TPU pod, which
            knows its own hosts. This process then returns when all hosts are there.
        hosts: How many train together.
        host: Which of them this process is.
        platform: The only kind of device to use, such as cpu; None: what JAX chooses.

    Raises:
        ConfigError: Keras runs on another backend, the hosts do not find each other, or what is
            running is not what is asked for.
    """
    global _running
    import jax

    if _running is not None:
        _require_fit(_running, coordinator, hosts, host, platform)
    if cache is not None:
        _keep_programs(cache)
    if _running is not None:
        return _running
    if platform is not None:
        jax.config.update("jax_platforms", platform)
    count_compiles()
    require_jax()
    if coordinator is not None:
        _join(coordinator, hosts, host)
    # a host's rows of a batch lie together
    devices = sorted(_devices(), key=lambda device: (device.process_index, device.id))
    if len(devices) != jax.process_count() * jax.local_device_count():
        raise ConfigError(
            f"{jax.process_count()} hosts have {len(devices)} devices together: all must "
            "have as many as the others"
        )
    _running = runtime_of(devices, hosts=jax.process_count(), host=jax.process_index())
    return _running


@contextmanager
def restored_settings() -> Iterator[None]:
    """Within it `start` may set up JAX; afterwards JAX has the settings that it had before.

    Only the devices that JAX computes on stay as they are: it chooses them once.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    before = {name: getattr(jax.config, name) for name in _OURS}
    compilation_cache.reset_cache()  # or it would stay in the folder that it began with, or in none
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def _keep_programs(cache: Path) -> None:
    import jax

    # A program is machine code: of a cache that came with a stranger's folder none may run.
    jax.config.update("jax_compilation_cache_dir", str(cache.resolve() / secret_name()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


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


def _devices() -> list[Device]:
    """Return all devices. Raises ConfigError if JAX cannot compute on what was chosen."""
    import jax

    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that one of its platforms works
        reason = (str(error).splitlines() or ["no such device"])[0]
        raise ConfigError(f"JAX finds nothing to compute on: {reason}{name_variables()}") from error
