"""Find the function that a configuration names by `_target_`, in trusted modules only."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from flowersweep.errors import ConfigError, did_you_mean

TRUSTED = ("flowersweep", "keras")


def resolve(spec: Any, *, trusted: tuple[str, ...] = (), what: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the callable that `spec["_target_"]` names and the keyword arguments beside it.

    Only modules under `flowersweep`, `keras` and `trusted` are imported, because a configuration can come from someone else's run. Raises
    `ConfigError` when the module is not one of these or the name does not exist.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("_target_"), str):
        raise ConfigError(f"{what} must be a mapping with _target_: package.module.function; it is {spec!r}.")
    path = str(spec["_target_"])
    if path.split(".")[0] not in TRUSTED + trusted:
        modules = ", ".join(TRUSTED + trusted)
        raise ConfigError(f"{what} names {path}. Trusted modules: {modules}. Add {path.split('.')[0]} to trusted_modules if you trust it.")
    found = _look_up(path, what)
    if not callable(found):
        raise ConfigError(f"{what} names {path}, which cannot be called.")
    return found, {str(key): value for key, value in spec.items() if key != "_target_"}


def _look_up(path: str, what: str) -> Any:
    """Walk down attributes, importing a module where there is no attribute yet."""
    parts = path.split(".")
    place: Any = importlib.import_module(parts[0])
    for depth, name in enumerate(parts[1:], start=2):
        if not hasattr(place, name):
            _import_below(parts[:depth], place, path, what)
        place = getattr(place, name)
    return place


def _import_below(parts: list[str], place: Any, path: str, what: str) -> None:
    module = ".".join(parts)
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not module.startswith(error.name or module):
            raise  # the module is there and misses one that it imports
        options = [name for name in dir(place) if not name.startswith("_")]
        raise ConfigError(f"{what} names {path}: {did_you_mean(parts[-1], options, '.'.join(parts[:-1]) + ' has')}") from error
