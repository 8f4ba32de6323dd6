"""The names by which a configuration calls what is ours, so that a module of ours can move and no
journal, run or YAML changes.
"""

from __future__ import annotations

REGISTRY: dict[str, dict[str, str]] = {  # slot -> name -> module:callable
    "loss": {"focal_cross_entropy": "flowersweep.training.losses:focal_cross_entropy"},
    "schedule": {
        "constant": "flowersweep.training.schedules:constant",
        "cosine": "flowersweep.training.schedules:cosine",
        "exponential": "flowersweep.training.schedules:exponential",
        "one_cycle": "flowersweep.training.schedules:one_cycle",
    },
    "augment": {"augment": "flowersweep.training.augment:augment"},
    "backbone": {
        "efficientnet_lite0": "flowersweep.models.backbones:efficientnet_lite0",
        "efficientnet_lite1": "flowersweep.models.backbones:efficientnet_lite1",
        "efficientnet_lite2": "flowersweep.models.backbones:efficientnet_lite2",
        "keras_hub": "flowersweep.models.hub.network:keras_hub",
        "tiny_backbone": "flowersweep.testing:tiny_backbone",
    },
    "preprocess": {"efficientnet_lite": "flowersweep.models.backbones:preprocess"},
    "data.fetch": {
        "huggingface": "flowersweep.data.downloads.hubs:huggingface",
        "kaggle": "flowersweep.data.downloads.kaggle:download",
        "synthetic": "flowersweep.data.synthetic.dataset:write",
        "tfds": "flowersweep.data.downloads.hubs:tfds",
    },
    "optimizer": {},
    "sampler": {
        "cma_es": "flowersweep.search.samplers.builtin:cma_es",
        "gp": "flowersweep.search.samplers.builtin:gp",
        "grid": "flowersweep.search.samplers.builtin:grid",
        "qmc": "flowersweep.search.samplers.builtin:qmc",
        "warm_start_tpe": "flowersweep.search.samplers.builtin:warm_start_tpe",
    },
    "pruner": {},
    "oracle": {},
    "executor": {
        "local": "flowersweep.execution.processes:ProcessBackend",
        "ray": "flowersweep.execution.ray_actors:RayBackend",
        "threads": "flowersweep.execution.threads:Threads",
    },
    "verb": {
        "auto": "flowersweep.cli.auto:auto",
        "check": "flowersweep.cli.run:check",
        "config": "flowersweep.cli.inspect:print_config",
        "data": "flowersweep.cli.inspect:data",
        "export": "flowersweep.cli.models:export",
        "plan": "flowersweep.cli.run:plan",
        "predict": "flowersweep.cli.models:predict",
        "promote": "flowersweep.cli.models:promote",
        "replay": "flowersweep.cli.models:replay",
        "report": "flowersweep.cli.inspect:report",
        "search": "flowersweep.cli.run:search",
        "serve": "flowersweep.cli.inspect:serve",
        "status": "flowersweep.cli.inspect:status",
        "sync": "flowersweep.cli.inspect:sync",
        "train": "flowersweep.cli.run:train",
        "trials": "flowersweep.cli.inspect:trials",
        "ui": "flowersweep.cli.inspect:ui",
    },
}

# flowersweep.testing is public: a path into it means the name that it is registered by
PUBLIC = {
    place.replace(":", "."): name
    for names in REGISTRY.values()
    for name, place in names.items()
    if place.startswith("flowersweep.testing:")
}


def slot_of(path: str) -> str | None:
    """Return the slot that a ``_target_`` at a dotted path of the configuration fills; None if
    nothing there is called.
    """
    parent = path.removesuffix("._target_")
    for slot in REGISTRY:
        if parent == slot:
            return slot
    parts = parent.split(".")
    if parts[0] == "model" and parts[-1] in ("backbone", "preprocess"):
        inside = parts[1:-1]  # of the model itself, or of one of its members
        return parts[-1] if not inside or (inside[0] == "members" and len(inside) == 2) else None
    return None


def registered_names(path: str, slot: str) -> list[str]:
    """Return the names that a slot has for the callable at the end of a dotted path into this
    package.
    """
    callable_ = path.rpartition(".")[2]
    return [
        name
        for name, place in REGISTRY[slot].items()
        if callable_ in (name, place.rpartition(":")[2])
    ]
