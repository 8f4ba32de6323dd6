"""What a configuration must be: ranges, names, and settings that fit each other."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from string import Formatter
from typing import Any

from flowersweep.config.keys import choices_of, range_of
from flowersweep.config.paths import Settings, flatten
from flowersweep.config.registry import slot_of
from flowersweep.config.schema import COSTS, OBJECTIVES, Config, Experiment
from flowersweep.config.targets import require_name
from flowersweep.config.words import shorten
from flowersweep.errors import ConfigError

LARGEST = 2**53  # beyond it, whole numbers and their floats differ
MODEL_NAME = re.compile(r"(?!\.+$|\s*$)[^/:]+")  # what MLflow takes
TAG_NAME = re.compile(r"\w(?:[\w. -]{0,98}[\w-])?")
STUDY_NAME = re.compile(r"\w[\w.-]*")
BUCKET = r"(file|gs|s3)://[^@:?#*\[\]\\\s][^@:?#*\[\]\\\n]*"


def validate(config: Config) -> Config:
    """Return the configuration, or raise one ConfigError that lists everything wrong with it."""
    leaves = dict(flatten(config))
    problems = [problem for path, value in leaves.items() if (problem := _problem(path, value))]
    for group in ("loss", "schedule", "augment"):
        problems += [
            f"{path}: expected a number, got {value!r}"
            for path, value in leaves.items()
            if _wrong(group, path, value)
        ]
    problems += [*_wrong_objectives(config.sweep.objectives), *_wrong_targets(leaves)]
    problems += [*_wrong_hosts(config), *_wrong_tags(config.tracking.tags)]
    hyperband = config.engine == "keras_tuner" and "Hyperband" in str(config.oracle.get("_target_"))
    if hyperband and config.train.patience is not None:
        problems.append(
            "train.patience: Hyperband goes on with trials that reached the end of their round. "
            "Leave train.patience out, or use another oracle"
        )
    if config.train.finetune and (config.data.folds or 1) > 1:
        problems.append(
            f"data.folds={config.data.folds}: only frozen heads are judged by cross-validation, "
            "fine-tuning would take as many trainings. Use train=frozen, or leave data.folds out"
        )
    model = config.model
    of_presets = (model.pooling, model.image_size) != ("auto", None)
    if of_presets and model.preset is None and not model.members:
        problems.append(
            "model.pooling and model.image_size: only networks of a model.preset take them. What "
            "others see is data.image_size"
        )
    if config.train.frozen_share > 0 and config.train.batch_statistics:
        problems.append(
            "train.frozen_share: layers that stay as they are keep their pretrained statistics. "
            "Use train.batch_statistics=false"
        )
    if isinstance(config.data.cache_bytes, str) and config.data.cache_bytes != "auto":
        problems.append(f"data.cache_bytes={config.data.cache_bytes}: must be bytes, or auto")
    if config.runtime.remat and config.model.members:
        problems.append(
            "runtime.remat: the networks of a joint model run side by side, and cannot be cut into "
            "pieces. Use runtime.remat=false and train.gradient_accumulation_steps"
        )
    if problems:
        raise ConfigError("; ".join(problems))
    if config.sweep.objectives:
        return dataclasses.replace(
            config, sweep=dataclasses.replace(config.sweep, objective=config.sweep.objectives[0])
        )
    return config


def uses_workers(config: Experiment) -> bool:
    """Say whether trials are trained by workers, and not in this process."""
    target = config.executor.get("_target_", "local")
    return target not in ("local", "threads") or (target == "local" and config.sweep.workers > 1)


def never_prunes(config: Config) -> bool:
    """Say whether every trial runs to its end."""
    return config.pruner.get("_target_") == "optuna.pruners.NopPruner"


def uses_threads(config: Experiment) -> bool:
    """Say whether several trials are trained at the same time in this process."""
    return config.sweep.workers > 1 and config.executor.get("_target_") == "threads"


def _wrong_hosts(config: Config) -> Iterator[str]:
    distributed = config.distributed
    if distributed.coordinator is None and distributed.hosts > 1:
        yield (
            "distributed.hosts: several hosts need distributed.coordinator=ADDRESS:PORT, of host 0"
        )
    if distributed.coordinator != "auto" and distributed.host >= distributed.hosts:
        yield (
            f"distributed.host={distributed.host}: hosts are counted from 0, and "
            f"distributed.hosts={distributed.hosts}"
        )
    if distributed.coordinator is not None and "images_per_s" in config.sweep.objectives:
        yield "sweep.objectives: images_per_s is measured on one host. Leave it out"
    if distributed.coordinator is not None and (uses_workers(config) or uses_threads(config)):
        yield (
            "distributed.coordinator: hosts that train one trial together have no workers "
            "for others: sweep.workers=1 executor=local"
        )


def _wrong_tags(tags: dict[str, str]) -> Iterator[str]:
    for name in tags:
        if not TAG_NAME.fullmatch(name):
            yield (
                f"tracking.tags: a tag cannot be called {name!r}. Use up to 100 letters, digits, "
                "spaces and ._-"
            )
        elif name.lower().partition(".")[0] in ("flowersweep", "mlflow"):
            yield f"tracking.tags: {name!r} would be a tag of ours or MLflow's. Use another name"


def _wrong_template(template: str | None) -> str | None:
    """Say why a name for runs is none."""
    if template is None:
        return None
    try:
        fields = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        return f"{error}. Write {{{{ for a brace"
    if not template.strip() or not template.isprintable():
        return "must be a text on one line"
    wrong = [name for name in fields if not name.isidentifier()]
    return f"{{{wrong[0]}}} is no name, such as {{trial}}" if wrong else None


def _wrong_objectives(names: list[str]) -> Iterator[str]:
    several, known = len({*names}) == len(names) > 1, {*names} <= {*OBJECTIVES, *COSTS}
    if names and not (several and known and names[0] in OBJECTIVES):
        yield (
            f"sweep.objectives={names}: must be two or more of {', '.join((*OBJECTIVES, *COSTS))}, "
            f"and {', '.join(COSTS)} must not be the first"
        )


def require_options(config: Config) -> None:
    """Raise ConfigError for an option of a group that does not name itself, or calls nothing."""
    groups = [(name, value) for name, value in vars(config).items() if isinstance(value, dict)]
    problems = [
        f"{group}.{key}={option.get(key)!r}: conf/{group}/NAME.yaml must have {key}, a text"
        for group, option in groups
        for key in ("name", "_target_")
        if not isinstance(option.get(key), str) and (group, key) != ("augment", "_target_")
    ]
    if problems:
        raise ConfigError("; ".join(problems))


def _wrong_targets(leaves: Settings) -> Iterator[str]:
    """Yield what is wrong with the names of callables: a module path of ours, an unknown name, or a
    place where nothing is called.
    """
    for path, target in leaves.items():
        if path.rpartition(".")[2] != "_target_" or target is None:
            continue
        if (slot := slot_of(path)) is None:
            yield (
                f"{path}={target!r}: an argument is plain data, and names nothing that is "
                "built or called"
            )
            continue
        try:
            require_name(str(target), slot)
        except ConfigError as error:
            yield str(error)


def _problem(path: str, value: Any) -> str | None:
    if path == "study" and value is not None and not STUDY_NAME.fullmatch(value):
        return (
            f"study={value!r}: must be letters, digits, dots, dashes and underscores, for it "
            "names a folder"
        )
    if path == "tracking.registered_model" and not MODEL_NAME.fullmatch(value or ""):
        return f"{path}={value!r}: must be a name without / and :, as MLflow takes no other"
    if path == "tracking.run_name" and (why := _wrong_template(value)):
        return f"{path}={value!r}: {why}"
    if path == "sync.to" and value is not None and not re.fullmatch(BUCKET, value):
        return (
            f"sync.to={value}: must be gs://BUCKET/PATH, s3://BUCKET/PATH or file://FOLDER. "
            "Credentials do not belong there: they are found as the store's own tools find them"
        )
    if (choices := choices_of(path)) and value not in choices:
        return f"{path}={value}: must be one of {', '.join(choice or 'null' for choice in choices)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path}={value}: must be a finite number"
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"{path}={shorten(str(value))}: must be at most {LARGEST}"
    limits = range_of(path)
    if limits is None or value is None or isinstance(value, str):
        return None
    low, high = limits
    wanted = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:.10g}"
    return None if low <= value <= high else f"{path}={value}: must be {wanted}"


def _wrong(group: str, path: str, value: Any) -> bool:
    """Say whether a hyperparameter of a group, which the step takes as a number, is none."""
    key = path.removeprefix(f"{group}.")
    if key == path or key in ("name", "_target_"):
        return False
    return isinstance(value, bool) or not isinstance(value, int | float)
