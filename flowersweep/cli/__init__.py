"""One function a verb: it takes the composed Config and the words it came from, calls one function below, and prints its outcome."""

from collections.abc import Callable
from typing import Any

from flowersweep.cli.inspect import data, print_config, report, status, sync, ui
from flowersweep.cli.models import predict, promote, replay
from flowersweep.cli.run import check, plan, search, train
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError

__all__ = [
    "check",
    "data",
    "plan",
    "predict",
    "print_config",
    "promote",
    "replay",
    "report",
    "search",
    "status",
    "sync",
    "train",
    "ui",
]

SEVERAL_HOSTS = (print_config, search, train)  # the verbs that hosts run together


def require_hosts(verb: Callable[..., Any], config: Config) -> None:
    """Raise ConfigError if several hosts are to run one of our verbs that only one host can run."""
    ours = verb.__module__.split(".")[0] == "flowersweep"
    if config.distributed.coordinator is not None and ours and verb not in SEVERAL_HOSTS:
        raise ConfigError(
            "distributed.coordinator: several hosts train and search together; leave it out for "
            f"{verb.__name__}"
        )
