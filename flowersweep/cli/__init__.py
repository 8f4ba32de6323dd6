"""One function per verb, which ``config/registry.py`` names.

Each takes the composed Config and the command-line words it came from, calls one function of a
lower layer and prints the result. All compute with JAX, but for those in ``inspect.py``.
"""

from collections.abc import Callable
from typing import Any

from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError

SEVERAL_HOSTS = ("print_config", "search", "train")  # verbs that several hosts run together


def require_hosts(verb: Callable[..., Any], config: Config) -> None:
    """Raise ConfigError if several hosts would run a built-in verb made for one host."""
    together = not _is_ours(verb) or verb.__name__ in SEVERAL_HOSTS
    if config.distributed.coordinator is not None and not together:
        raise ConfigError(
            "distributed.coordinator: several hosts train and search together; leave it out for "
            f"{verb.__name__}"
        )


def require_libraries(verb: Callable[..., Any]) -> None:
    """Raise ConfigError if a verb computes, and a setting of the environment forbids it."""
    if _is_ours(verb) and verb.__module__ != f"{__name__}.inspect":
        from flowersweep import runtime

        runtime.require_libraries()


def _is_ours(verb: Callable[..., Any]) -> bool:
    return verb.__module__.split(".")[0] == "flowersweep"
