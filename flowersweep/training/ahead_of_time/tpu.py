"""Compile the programs of a training for a slice of TPU chips with TPU's own compiler, on a machine
that has no TPU.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from flowersweep.errors import ConfigError
from flowersweep.runtime import Runtime, runtime_of

NAMES = ("v5e:1x1", "v5e:2x4", "v6e:2x4", "v4:2x2x1")
# jax_optimization_level O0: as much arithmetic as in a run, up to half as much memory again, and
# compiled much sooner
QUICK = {"optimization_level": 9}
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
}
QUIET = {  # what libtpu would otherwise ask the machine for, and say that it is not there
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_STDERR_LOG_LEVEL": "4",
    "TPU_MIN_LOG_LEVEL": "4",
}


@dataclass(frozen=True)
class Chip:
    """What one chip can do."""

    flops: float  # bfloat16 operations a second
    bandwidth: float  # bytes a second between the chip and its memory
    memory: float  # bytes that the compiler gives to programs, out of 16 GiB (v5e) or 32


GIB = 2.0**30
CHIPS = {
    "v4": Chip(275e12, 1228e9, 30.75 * GIB),
    "v5e": Chip(197e12, 819e9, 15.75 * GIB),
    "v6e": Chip(918e12, 1640e9, 31.25 * GIB),
}


@dataclass(frozen=True)
class Cost:
    """What one compiled program costs on each chip; the compiler counts a loop once, however often
    it runs.
    """

    seconds: float  # of compiling
    # bytes of the chip's memory: arguments, results, temporaries, the program, and what the run
    # keeps besides them
    peak: float
    flops: float
    bytes: float  # between the chip and its memory
    estimate: float | None  # seconds by the compiler's own reckoning, where it has one
    gathers: int
    reduces: int  # all-reduces
    moves: int  # all other collectives: mixing images needs a few small ones, nothing else does

    def bound(self, chip: Chip) -> tuple[float, str]:
        """Return the seconds that it takes at least, and what bounds them (Williams et al. 2009,
        the roofline model).
        """
        return max((self.flops / chip.flops, "arithmetic"), (self.bytes / chip.bandwidth, "memory"))

    def times(self, loops: int) -> Cost:
        """Return the cost of a program that is nearly all one loop, which runs so many times."""
        estimate = None if self.estimate is None else self.estimate * loops
        return replace(self, flops=self.flops * loops, bytes=self.bytes * loops, estimate=estimate)


@dataclass(frozen=True)
class TooLarge:
    """A program that the memory of a chip does not hold."""

    seconds: float  # of compiling
    needed: float | None  # bytes, where the compiler says it
    reason: str  # the compiler's words


def chip_of(topology: str | None) -> Chip:
    """Return the chip of a topology's name, such as v5e:2x4.

    Raises ConfigError naming those that work.
    """
    if topology is None:
        raise ConfigError(
            "check compiles for a slice of TPU chips: topology=NAME. Names that work: "
            f"{', '.join(NAMES)}"
        )
    generation, _, shape = topology.partition(":")
    if generation not in CHIPS or not re.fullmatch(r"\d+(x\d+)+", shape):
        raise _unknown(topology)
    return CHIPS[generation]


def slice_of(topology: str) -> Runtime:
    """Return the chips of a topology as a runtime that can be compiled for, and not run on.

    Raises ConfigError if there is no such slice, or if libtpu, which brings the compiler, is not
    installed.
    """
    chip_of(topology)
    if find_spec("libtpu") is None:
        raise ConfigError(
            "the compiler for TPU is not installed: pip install 'flowersweep[tpu-check]' "
            "(libtpu, for Linux on x86-64)"
        )
    _prepare()
    alone = (
        {"chips_per_host_bounds": (1, 1, 1)}
        if set(topology.partition(":")[2].split("x")) == {"1"}
        else {}
    )
    # JAX shows both cores of a v4 chip as one device
    fused = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        devices: list[Any] = topologies.get_topology_desc(
            platform="tpu", topology_name=topology, **alone, **fused
        ).devices
    except jax.errors.JaxRuntimeError as error:
        raise _unknown(topology) from error
    return runtime_of(devices)


def _unknown(topology: str) -> ConfigError:
    return ConfigError(
        f"topology={topology}: no such slice is known. Names that work: {', '.join(NAMES)}, "
        "and larger slices of these chips"
    )


def quick() -> bool:
    """Whether programs are compiled quickly: unless JAX_OPTIMIZATION_LEVEL says how.

    A run's own level is O2.
    """
    settings: Any = jax.config
    return bool(settings.jax_optimization_level == "UNKNOWN")


def _prepare() -> None:
    """Make libtpu compile only: it is to look for no chip, to lock nothing and to log nothing."""
    # were there a TPU, it would stay with whoever uses it
    jax.config.update("jax_platforms", "cpu")
    os.environ.update(ENVIRONMENT)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """Keep JAX's cache out of it: it stores programs for devices that are not there, and then
    cannot load them.
    """
    settings: Any = jax.config
    folder = settings.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)
        reset_cache()


def compiled(lowered: Any, *, held: float, memory: float) -> Cost | TooLarge:
    """Compile a lowered function for the devices that its arguments' shapes name; return what it
    costs on each of them.

    ``held`` are the bytes that the run keeps on the chip besides the function's own, ``memory``
    those that the chip has.
    """
    start = time.monotonic()
    try:
        with _uncached():
            program = lowered.compile(compiler_options=QUICK if quick() else None)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return TooLarge(time.monotonic() - start, _needed(str(error)), str(error).splitlines()[0])
    seconds, size = time.monotonic() - start, program.memory_analysis()
    # results may take the place of arguments
    own = size.argument_size_in_bytes + size.output_size_in_bytes - size.alias_size_in_bytes
    peak = own + size.temp_size_in_bytes + size.generated_code_size_in_bytes + held
    if peak > memory:
        return TooLarge(
            seconds,
            peak,
            (
                f"{peak / GIB:.2f} GiB with what the run keeps besides the step, of "
                f"{memory / GIB:g} GiB"
            ),
        )
    return _cost(seconds, peak, program.cost_analysis(), program.as_text())


def _cost(seconds: float, peak: float, cost: dict[str, float], text: str) -> Cost:
    reckoned = cost.get("optimal_seconds", 0.0)
    return Cost(
        seconds=seconds,
        peak=peak,
        flops=cost["flops"],
        bytes=cost["bytes accessed"],
        estimate=reckoned if reckoned > 0 else None,  # negative where it does not know
        gathers=count(text, "gather"),
        reduces=count(text, "all-reduce", "all-reduce-start"),
        moves=count(
            text,
            "all-gather",
            "all-gather-start",
            "all-to-all",
            "collective-permute",
            "collective-permute-start",
            "reduce-scatter",
        ),
    )


def count(text: str, *operations: str) -> int:
    """Count the operations of these names in the text of a compiled program, inside of fusions and
    loops too.
    """
    names = "|".join(map(re.escape, operations))
    return len(re.findall(rf"(?<![\w.%-])({names})\(", text))


def _needed(message: str) -> float | None:
    """Read the first amount of memory in the compiler's complaint, in bytes."""
    amount = re.search(r"([\d.]+)([KMGT])\b", message)
    return float(amount[1]) * 1024 ** (1 + "KMGT".index(amount[2])) if amount else None
