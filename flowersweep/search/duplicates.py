"""Identify trials that train the same, and seed their repetitions."""

from __future__ import annotations

import hashlib

from flowersweep.execution.protocol import Trainer
from flowersweep.search.source import TrialSource
from flowersweep.space.space import Params


def training_identity(source: TrialSource, params: Params, trainer: Trainer) -> str:
    """Return the identity of the training that a point of a space describes."""
    data_varies = any(parameter.path.split(".")[0] == "data" for parameter in source.parameters)
    return trainer.identity(source.config(params), data_varies=data_varies)


def replicate_seed(identity: str, repeat: int) -> int:
    """Return the seed of the ``repeat``-th repetition of a training."""
    return (
        int.from_bytes(hashlib.sha256(f"{identity}/{repeat}".encode()).digest()[:4], "big") % 2**31
    )
