"""From a ``_target_`` in a YAML file to the callable it names: the one way to extend this package.

A configuration may come from somebody else, in a journal, a run or a file. So a callable is called
only if it fits its slot: it is registered here, it is a class or network of the library that the
slot is for, or the user has listed its module in ``trusted_modules``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowersweep.config import own_functions
from flowersweep.config.registry import REGISTRY, registered_names
from flowersweep.errors import ConfigError, did_you_mean

OURS = "flowersweep"
LIBRARIES = ("keras", "optuna", "keras_tuner")
BASES = {  # slot: the public module of a library whose classes fill it, and their base class there
    "optimizer": ("keras.optimizers", "keras", "Optimizer"),
    "sampler": ("optuna.samplers", "optuna.samplers", "BaseSampler"),
    "pruner": ("optuna.pruners", "optuna.pruners", "BasePruner"),
    "oracle": ("keras_tuner.oracles", "keras_tuner", "Oracle"),
}
NETWORKS = "keras.applications"
UNFIT = {  # of the right class, and yet not for a study
    "optuna.samplers.CmaEsSampler": "it reads pickles from the notes of trials. Use "
    "`sampler=cma_es`.",
    "keras_tuner.oracles.GridSearchOracle": "it cannot be given trials. A grid is sampler=grid.",
}
EXAMPLES = {
    "optimizer": "keras.optimizers.Adam",
    "sampler": "optuna.samplers.TPESampler",
    "pruner": "optuna.pruners.MedianPruner",
    "oracle": "keras_tuner.oracles.RandomSearchOracle",
    "backbone": "keras.applications.ResNet50",
    "preprocess": "keras.applications.resnet.preprocess_input",
}


def resolve(spec: Mapping[str, Any], slot: str, trusted: Iterable[str] = ()) -> Callable[..., Any]:
    """Return what ``spec["_target_"]`` names, which fits ``slot`` and takes the arguments in
    ``spec``; call nothing.

    ``trusted`` are the user's own modules. Raises ConfigError, before anything of an untrusted
    module is imported, for what the slot does not take, what does not exist, and arguments that are
    more than plain data.
    """
    target = str(spec.get("_target_"))
    _require_plain(slot, arguments(spec))
    require_name(target, slot)
    if (own := own_functions.find(slot, target)) is not None:
        called = _require_base(own.function, slot, target)
    elif "." not in target:
        module, _, name = REGISTRY[slot][target].partition(":")
        called = _load(module, name, slot, target)
    elif target.split(".")[0] in LIBRARIES:
        called = _load_library(target, slot)
    else:
        called = _load_own(target, slot, tuple(trusted))
    try:
        signature = inspect.signature(called)
        signature.bind_partial(**arguments(spec))
    except TypeError as error:
        raise ConfigError(f"{_named(slot, target)}: {error}") from error
    except ValueError:  # it does not say what it takes
        return called
    for name, value in arguments(spec).items():
        _require_kind(f"{slot}.{name}", value, signature.parameters.get(name))
    return called


def _require_kind(path: str, value: Any, parameter: inspect.Parameter | None) -> None:
    """Raise ConfigError for text where the default is a number or a switch: "no" would be true."""
    usual = parameter.default if parameter else None
    if isinstance(value, str) and isinstance(usual, bool | int | float):
        wanted = "true or false" if isinstance(usual, bool) else "a number"
        raise ConfigError(f"{path}={value!r}: must be {wanted}, without quotes")


def arguments(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a ``_target_`` mapping: everything but the target and its
    name.
    """
    return {key: value for key, value in spec.items() if key not in ("_target_", "name")}


def require_name(target: str, slot: str) -> None:
    """Raise ConfigError for a bare name that the slot does not have, and for a path into this
    package, whose modules may move.
    """
    names = REGISTRY[slot]
    if target.split(".")[0] == OURS:
        meant = registered_names(target, slot)
        use = (
            f"Use `{slot}._target_={meant[0]}`."
            if meant
            else did_you_mean(target.rpartition(".")[2], names, "Names of this slot")
        )
        raise ConfigError(
            f"{_named(slot, target)}: what is ours is called by its name, since its module "
            f"may move. {use}"
        )
    if "." not in target and target not in [*names, *own_functions.names(slot)]:
        example = f" Or a path such as {EXAMPLES[slot]}." if slot in EXAMPLES else ""
        raise ConfigError(
            f"{_named(slot, target)}: there is no such name. "
            + did_you_mean(target, [*names, *own_functions.names(slot)], "Names of this slot")
            + example
            + f" A function of a notebook must be registered first: flowersweep.register({target})"
            * (slot in own_functions.SLOTS.values())
        )


def _named(slot: str, target: str) -> str:
    return f"{slot}._target_={target!r}"


def _load_library(target: str, slot: str) -> Callable[..., Any]:
    """Return a public class or network of a library, if it is of the kind that the slot is for."""
    module, _, name = target.rpartition(".")
    refused = f"{_named(slot, target)}: this slot takes {_taken(slot)}"
    if target in UNFIT:
        raise ConfigError(f"{_named(slot, target)}: {UNFIT[target]}")
    if slot in BASES and module == BASES[slot][0]:
        loaded = _load(module, name, slot, target)
        if isinstance(loaded, type) and issubclass(loaded, _base(slot)):
            return loaded
    elif slot == "backbone" and module.startswith(NETWORKS):
        public = _load(NETWORKS, name, slot, target)
        if inspect.isfunction(public) and module in (NETWORKS, *_families()):
            return _load(module, name, slot, target)
    elif slot == "preprocess" and name == "preprocess_input" and module in _families():
        return _load(module, name, slot, target)
    raise ConfigError(refused)


def _load_own(target: str, slot: str, trusted: tuple[str, ...]) -> Callable[..., Any]:
    """Return a callable that a module of the user's own defines, and does not only import."""
    module, root = target.rpartition(".")[0], target.split(".")[0]
    if not any(module == each or module.startswith(f"{each}.") for each in trusted):
        raise ConfigError(
            f"{_named(slot, target)}: this slot takes {_taken(slot)}. If the module is your "
            f"own: trusted_modules=[{root}]"
        )
    loaded = _require_base(_load(module, target.rpartition(".")[2], slot, target), slot, target)
    home = str(getattr(loaded, "__module__", None))
    if home.split(".")[0] != root and not isinstance(loaded, functools.partial):
        raise ConfigError(
            f"{_named(slot, target)}: {module} only imports it, from {home}. Write a "
            f"function of {module} that calls it"
        )
    return loaded


def _require_base(loaded: Callable[..., Any], slot: str, target: str) -> Callable[..., Any]:
    """Return what the user has written. Raises ConfigError for a class of another kind."""
    if isinstance(loaded, type) and slot in BASES and not issubclass(loaded, _base(slot)):
        raise ConfigError(
            f"{_named(slot, target)}: it must be a subclass of {'.'.join(BASES[slot][1:])}"
        )
    return loaded


def _load(module: str, name: str, slot: str, target: str) -> Callable[..., Any]:
    try:
        loaded: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{_named(slot, target)} cannot be imported: {error}") from error
    if not callable(loaded):
        raise ConfigError(f"{_named(slot, target)} is not callable")
    return loaded


def _base(slot: str) -> type:
    _, module, name = BASES[slot]
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def _families() -> list[str]:
    """Return the public modules of Keras' networks, such as ``keras.applications.resnet``."""
    networks = importlib.import_module(NETWORKS)
    return [
        f"{NETWORKS}.{name}"
        for name, value in vars(networks).items()
        if inspect.ismodule(value) and hasattr(value, "preprocess_input")
    ]


def _taken(slot: str) -> str:
    """Say what a slot takes besides the user's own code."""
    taken = [f"a name ({', '.join(sorted(REGISTRY[slot]))})"] if REGISTRY[slot] else []
    if slot in BASES:
        taken.append(
            f"a subclass of {'.'.join(BASES[slot][1:])} in {BASES[slot][0]}, such as "
            f"{EXAMPLES[slot]}"
        )
    elif slot in EXAMPLES:
        taken.append(f"one of {NETWORKS}, such as {EXAMPLES[slot]}")
    return " or ".join(taken)


def _require_plain(slot: str, value: Any, path: str = "") -> None:
    """Raise ConfigError for an argument that is more than plain data, or that a library would build
    an object from.
    """
    where = f"{slot}{path}"
    if isinstance(value, Mapping):
        for key in ("_target_", "class_name"):
            if key in value:
                raise ConfigError(
                    f"{where}.{key}={value[key]!r}: an argument is plain data, and names "
                    "nothing that is built or called"
                )
        for key, inner in value.items():
            _require_plain(slot, inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for n, inner in enumerate(value):
            _require_plain(slot, inner, f"{path}[{n}]")
    elif not isinstance(value, str | int | float | bool | None):
        raise ConfigError(
            f"{where}={value!r}: must be a number, a string, a boolean, null, or a list or "
            "mapping of them"
        )
