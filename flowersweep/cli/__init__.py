"""One function a verb: it takes the composed Config and the words it came from, calls one function below, and prints its outcome."""

from flowersweep.cli.inspect import data, print_config, report, status, sync, ui
from flowersweep.cli.models import predict, promote, replay
from flowersweep.cli.run import check, plan, search, train

__all__ = ["check", "data", "plan", "predict", "print_config", "promote", "replay", "report", "search", "status", "sync", "train", "ui"]
