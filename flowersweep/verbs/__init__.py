"""One function a verb: it takes the composed Config and the words it came from, calls one function below, and prints its outcome."""

from flowersweep.verbs.promoting import predict, promote, replay
from flowersweep.verbs.searching import check, plan, search, train
from flowersweep.verbs.showing import data, report, show, status, sync, ui

__all__ = ["check", "data", "plan", "predict", "promote", "replay", "report", "search", "show", "status", "sync", "train", "ui"]
