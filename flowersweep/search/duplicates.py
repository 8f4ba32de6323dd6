"""Trials that train the same: what they share, and the seed of a repetition."""

from __future__ import annotations

import hashlib

from flowersweep.execution.protocol import Trainer
from flowersweep.search.source import TrialSource
from flowersweep.space.space import Params


def training_identity(source: TrialSource, params: Params, trainer: Trainer) -> str:
    """Return the identity of what a point of a space trains."""
    data_varies = any(parameter.path.split(".")[0] == "data" for parameter in source.parameters)
    return trainer.identity(source.config(params), data_varies=data_varies)


def replicate_seed(identity: str, repeat: int) -> int:
    """Return the seed of a training's ``repeat``-th repetition."""
    return (
        int.from_bytes(hashlib.sha256(f"{identity}/{repeat}".encode()).digest()[:4], "big") % 2**31
    )
