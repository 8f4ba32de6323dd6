"""One function per verb.

Each takes the composed Config and the command-line words it came from, calls one function of a
lower layer and prints the result.
"""

from collections.abc import Callable
from typing import Any

from flowersweep.cli.auto import auto
from flowersweep.cli.inspect import data, print_config, report, serve, status, sync, trials, ui
from flowersweep.cli.models import promote, replay
from flowersweep.cli.run import check, plan, search, train
from flowersweep.cli.use import export, predict
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError

__all__ = [
    "auto",
    "check",
    "data",
    "export",
    "plan",
    "predict",
    "print_config",
    "promote",
    "replay",
    "report",
    "search",
    "serve",
    "status",
    "sync",
    "train",
    "trials",
    "ui",
]

SEVERAL_HOSTS = (print_config, search, train)  # verbs that several hosts run together
COMPUTING = (auto, check, export, plan, predict, promote, replay, search, train)


def require_hosts(verb: Callable[..., Any], config: Config) -> None:
    """Raise ConfigError if several hosts would run a built-in verb made for one host."""
    ours = verb.__module__.split(".")[0] == "flowersweep"
    if config.distributed.coordinator is not None and ours and verb not in SEVERAL_HOSTS:
        raise ConfigError(
            "distributed.coordinator: several hosts train and search together; leave it out for "
            f"{verb.__name__}"
        )


def require_libraries(verb: Callable[..., Any]) -> None:
    """Raise ConfigError if a verb computes, and a setting of the environment forbids it."""
    if verb in COMPUTING:
        from flowersweep import runtime

        runtime.require_libraries()
