"""From a ``_target_`` in a YAML file to the callable it names: the one way this package is extended."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowersweep.errors import ConfigError

TRUSTED = ("flowersweep", "keras", "optuna", "keras_tuner")  # a configuration can come from somebody else's run


def resolve(spec: Mapping[str, Any], trusted: Iterable[str] = ()) -> Callable[..., Any]:
    """Import what ``spec["_target_"]`` names.

    Raises ConfigError if its package is not trusted (see ``trusted_modules``), or if there is no such callable.
    """
    target = str(spec.get("_target_"))
    module, _, name = target.rpartition(".")
    allowed = (*TRUSTED, *trusted)
    if target.split(".")[0] not in allowed:
        raise ConfigError(f"_target_ {target!r}: only from {', '.join(allowed)}. To trust it: trusted_modules=[{target.split('.')[0]}]")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"_target_ {target!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"_target_ {target!r} is not callable")
    return found  # type: ignore[no-any-return]


def arguments(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a ``_target_`` mapping: everything but the target and its name."""
    return {key: value for key, value in spec.items() if key not in ("_target_", "name")}


def require_called(spec: Mapping[str, Any], trusted: Iterable[str] = ()) -> None:
    """Raise ConfigError if what ``spec["_target_"]`` names cannot be had, or does not take the arguments that stand beside it."""
    called = resolve(spec, trusted)
    try:
        inspect.signature(called).bind_partial(**arguments(spec))
    except TypeError as error:
        raise ConfigError(f"_target_ {spec['_target_']!r}: {error}") from error
    except ValueError:  # it does not say what it takes
        pass
