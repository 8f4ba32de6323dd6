"""Hyperparameter sweeps and experiment tracking for image classification on TPU.

The public functions are those of `flowersweep.api`. They are imported when they are first used, so
that ``import flowersweep`` itself imports nothing.
"""

import os
import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowersweep import errors as errors
    from flowersweep.api import (
        compare,
        load,
        plan,
        predict,
        promote,
        read,
        register,
        report,
        search,
        status,
        train,
    )
    from flowersweep.session.study import Study
    from flowersweep.space.ranges import Choice, Float, Int

# The libraries read these when they are first imported, wherever that happens; what the user has
# set stays.
for _name, _value in (
    ("KERAS_BACKEND", "jax"),
    ("KERAS_NNX_ENABLED", "false"),
    ("TF_CPP_MIN_LOG_LEVEL", "2"),
):
    os.environ[_name] = os.environ.get(_name) or _value

# Optuna asks for a notebook's progress bar where it is imported, although it shows none.
warnings.filterwarnings("ignore", message="IProgress not found")

__all__ = [
    "Choice",
    "Float",
    "Int",
    "Study",
    "compare",
    "errors",
    "load",
    "plan",
    "predict",
    "promote",
    "read",
    "register",
    "report",
    "search",
    "status",
    "train",
]

_HOMES = {
    "Choice": "space.ranges",
    "Float": "space.ranges",
    "Int": "space.ranges",
    "Study": "session.study",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("flowersweep.errors")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"flowersweep.{_HOMES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """The package, in which two functions have the names of folders.

    Python gives a package the folder as an attribute when something in it is first imported. The
    function stays; ``from flowersweep.search.loop import ...`` does not need the attribute.
    """

    search = property(lambda self: __getattr__("search"), lambda self, folder: None)
    report = property(lambda self: __getattr__("report"), lambda self, folder: None)


sys.modules[__name__].__class__ = _Package
