"""Who follows a journal besides MLflow: TensorBoard, and Weights & Biases."""

from __future__ import annotations

import importlib.util
import os
from contextlib import closing
from pathlib import Path

from flowersweep.config.schema import Tracking
from flowersweep.errors import ConfigError
from flowersweep.tracking.followers.tensorboard import TensorBoardSink
from flowersweep.tracking.followers.weights_and_biases import WandbSink
from flowersweep.tracking.shipper import Sink


def followers(journal: Path, tracking: Tracking, dir: Path) -> list[Sink]:
    """Return the sinks, besides MLflow's, that a command asks for.

    Raises:
        ConfigError: A package is missing.
    """
    require_followers(tracking)
    sinks: list[Sink] = []
    if tracking.tensorboard:
        sinks.append(TensorBoardSink(journal, dir))
    if tracking.wandb and os.environ.get("WANDB_MODE") != "disabled":
        sinks.append(WandbSink(journal, dir))
    return sinks


def require_followers(tracking: Tracking) -> None:
    """Raise ConfigError if the package of a sink that is asked for is not installed."""
    for name in ("tensorboard", "wandb"):
        if getattr(tracking, name) and importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"tracking.{name}=true needs {name}: pip install 'flowersweep[{name}]'"
            )


def send(sink: Sink) -> int:
    """Ship the rest of a journal to a sink, and return the number of events."""
    total = 0
    with closing(sink):
        while shipped := sink.step():
            total += shipped
    return total
