"""Functions that a notebook defines, as options of the configuration by their names.

They are known to this process alone. A journal holds the name, and nothing is pickled: whoever goes
on with the study registers the function first.
"""

from __future__ import annotations

import hashlib
import inspect
import keyword
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flowersweep.config.registry import REGISTRY, slot_of
from flowersweep.errors import ConfigError, did_you_mean

SLOTS = {  # a group of the configuration -> the slot that a function of its own fills
    "model": "backbone",
    **{
        group: group
        for group in ("augment", "loss", "optimizer", "oracle", "pruner", "sampler", "schedule")
    },
}
GIVEN = {  # a slot -> parameters that its caller fills
    "backbone": {"input_shape", "include_top", "weights"},
    "loss": {"class_counts"},
    "sampler": {"seed", "number", "space", "study_seed"},
}


@dataclass(frozen=True, eq=False)
class OwnFunction:
    """A function by its name: what it is called with, unless the configuration says otherwise."""

    function: Callable[..., Any]
    group: str
    option: dict[str, Any]  # what a YAML file of the option would hold

    @property
    def source(self) -> str:
        """Return a digest of its code; of its name where the code is not known."""
        try:
            text = inspect.getsource(self.function)
        except (OSError, TypeError):
            code = getattr(self.function, "__code__", None)
            text = code.co_code.hex() if code else ""
        return hashlib.sha256(f"{self.option['name']}\0{text}".encode()).hexdigest()[:16]


_functions: dict[tuple[str, str], OwnFunction] = {}  # by slot and name


def add(group: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> OwnFunction:
    """Register a function of this process as an option of a group; return what was registered.

    Args:
        group: Such as ``loss``.
        function: What the slot takes. One of the same name takes the place of the one before.
        settings: Keys of the option; those that the function's own defaults do not give.

    Raises:
        ConfigError: The group takes no function, or the function has no name of its own.
    """
    if group not in SLOTS:
        raise ConfigError(f"{group!r} takes no function. {did_you_mean(group, SLOTS, 'Groups')}")
    name, slot = str(getattr(function, "__name__", "")), SLOTS[group]
    if not callable(function) or not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigError(
            f"{group}={function!r}: must be a function with a name, def NAME(...), by which a "
            "later session can ask for it"
        )
    if name in REGISTRY[slot]:
        raise ConfigError(f"{group}={name}: there is a {group} of this name. Name yours otherwise")
    usual = _defaults(function, GIVEN.get(slot, set()))
    own = OwnFunction(function, group, _option(group, name, usual, settings))
    _functions[slot, name] = own
    return own


def find(slot: str, name: str) -> OwnFunction | None:
    """Return the function that this process has registered in a slot by a name."""
    return _functions.get((slot, name))


def options(group: str | None = None) -> list[OwnFunction]:
    """Return the functions that were registered as options, of one group or of all."""
    return [own for own in _functions.values() if group in (None, own.group)]


def names(slot: str) -> list[str]:
    """Return the names in a slot."""
    return [name for other, name in _functions if other == slot]


def used(leaves: Mapping[str, Any]) -> list[OwnFunction]:
    """Return the functions that a configuration names, given as settings by dotted path."""
    targets = {path: target for path, target in leaves.items() if path.endswith("_target_")}
    found = (find(str(slot_of(path)), str(target)) for path, target in targets.items())
    return [own for own in found if own is not None]


def sources(leaves: Mapping[str, Any]) -> Iterable[str]:
    """Return what changes when a function that a configuration names is written anew."""
    return sorted(own.source for own in used(leaves))


def _defaults(function: Callable[..., Any], given: Iterable[str]) -> dict[str, Any]:
    """Return the keyword arguments of a function that have plain data as their default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # it does not say what it takes
        return {}
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.name not in given
        and isinstance(parameter.default, bool | int | float | str | None)
    }


def _option(
    group: str, name: str, usual: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    if group != "model":
        return {"_target_": name, "name": name, **usual, **settings}
    own, model = dict(settings), {"weights": "none", "dropout": 0.2}
    model |= {key: own.pop(key) for key in [*own] if key in model}
    preprocess = _preprocess(own.pop("preprocess", None))
    backbone = {"_target_": name, **usual, **own}
    return {"name": name, "backbone": backbone, "preprocess": preprocess, **model}


def _preprocess(given: Any) -> Any:
    """Return what the configuration holds of a preprocessing: a function, its path, or None."""
    if isinstance(given, str):
        return {"_target_": given}
    if not callable(given):
        return given
    name = str(given.__name__)
    _functions["preprocess", name] = OwnFunction(given, "preprocess", {"name": name})
    return {"_target_": name}
