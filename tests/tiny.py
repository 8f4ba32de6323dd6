"""The configuration of a training that ends in seconds."""

from __future__ import annotations

from typing import Any

from flowersweep.config.schema import Config, Data, Model, Train

LOSS = {
    "_target_": "focal_cross_entropy",
    "name": "smoothed",
    "label_smoothing": 0.1,
    "gamma": 0.0,
    "beta": 0.0,
    "tau": 0.0,
}
SCHEDULE = {
    "_target_": "cosine",
    "name": "cosine",
    "warmup": 0.1,
    "warmup_start_factor": 0.1,
    "final_factor": 0.0,
}


def tiny(**changed: object) -> Config:
    """A configuration that trains in seconds."""
    fetch = {
        "_target_": "synthetic",
        "classes": 5,
        "train": 8,
        "val": 6,
        "test": 2,
        "image_size": 32,
    }
    settings = {
        "data": Data(name="synthetic", fetch=fetch, folds=1),
        "model": Model(name="tiny", backbone={"_target_": "tiny_backbone"}, weights="none"),
        "loss": LOSS,
        "schedule": SCHEDULE,
        "optimizer": {"_target_": "keras.optimizers.Adam", "name": "adam"},
        "train": Train(name="frozen", epochs=4, batch_per_replica=8, min_head_steps=0),
    }
    return Config(**{**settings, **changed})  # type: ignore[arg-type]


def finetuning(**settings: Any) -> Train:
    """Return one epoch of the head, then one of the network; ``settings`` of `Train` win."""
    short = {"epochs": 1, "head_epochs": 1, "min_head_steps": 0, "batch_per_replica": 8}
    return Train(name="finetune", finetune=True, **{**short, **settings})
