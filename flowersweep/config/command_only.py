"""What only a command may say: YAML files, journals and runs may come from somebody else.

A file that names modules to import, places to write, servers to call or variables of the
environment would act for its author, not for whoever gives the command.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf, resolvers

from flowersweep.config.keys import key_of, says
from flowersweep.config.paths import flatten
from flowersweep.config.registry import REGISTRY
from flowersweep.config.schema import Config, Data
from flowersweep.errors import ConfigError

USUAL: dict[str, tuple[Any, ...]] = {  # key -> the values that a file may give it
    "trusted_modules": ([],),
    "dir": ("mlruns",),
    "output": (None,),
    "force": (False,),
    "tracking.uri": (None,),
    "sweep.optuna_storage": (None,),
    "sync.to": (None,),
    "sync.take_over": (False,),
    "executor.address": ("auto", None),
    "executor.runtime_env": (None,),
    "distributed.coordinator": (None,),
}
_VARIABLE = re.compile(r"oc\.env:\s*([^\s,}]+)")
_variables: ContextVar[frozenset[str] | None] = ContextVar("variables", default=None)


def require_command_only(config: Config, words: Sequence[str]) -> None:
    """Raise ConfigError if a file says what only the words of a command may."""
    leaves = dict(flatten(config))
    for key, usual in USUAL.items():
        value = leaves.get(key)
        if value not in usual and not says(words, key):
            raise ConfigError(
                f"a file sets {key} to {value!r}, which only the command may. If you want that: "
                f"{key}={_word(value)}"
            )
    if not says(words, "data", "data.dir"):
        require_local(config.data)
    if not says(words, "data.extra"):
        require_local(Data(extra=config.data.extra))
    _require_verb(config, words)


def require_local(data: Data) -> None:
    """Raise ConfigError if images that a command does not name lie at an address."""
    places = [("data.dir", data.dir), ("data.path", data.path), ("data.file", data.file)]
    for key, place in (*places, *(("data.extra", place) for place in data.extra)):
        if place is not None and "://" in place:
            word = data.extra if key == "data.extra" else place
            raise ConfigError(
                f"the images lie at {place}, which only the command may open. If you trust it: "
                f"{key}={_word(word)}"
            )


def _require_verb(config: Config, words: Sequence[str]) -> None:
    """Raise ConfigError if a file makes a verb of ours another one."""
    if says(words, "verb._target_"):
        return
    said = {key_of(word): word.partition("=")[2] for word in words}
    verb = said.get("verb", "search" if "sweep" in said else "train")
    target = config.verb.get("_target_") if isinstance(config.verb, dict) else config.verb
    if verb in REGISTRY["verb"] and target != verb:
        raise ConfigError(
            f"a file makes the verb {verb} call {target!r}. A verb of your own needs another name"
        )


def _word(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def variables_of(words: Iterable[str]) -> Iterator[None]:
    """Within it, ``${oc.env:NAME}`` is resolved only if the words name it."""
    OmegaConf.register_new_resolver("oc.env", _variable, replace=True)
    token = _variables.set(frozenset(_named(words)))
    try:
        yield
    finally:
        _variables.reset(token)


def _named(words: Iterable[str]) -> list[str]:
    return [name for word in words for name in _VARIABLE.findall(word)]


def _variable(name: str, *default: Any) -> Any:
    if (named := _variables.get()) is None:  # not ours: of the program around us
        return resolvers.oc.env(name, *default)
    if name not in named:
        raise ConfigError(
            f"a file reads {name} of the environment, which only the command may: "
            f"KEY=${{oc.env:{name}}}"
        )
    if name not in os.environ and not default:
        raise ConfigError(f"the environment has no {name}, which the command reads")
    return os.environ.get(name, *default)


def without_variables(value: Any, words: Iterable[str], mask: str) -> Any:
    """Return plain data with the values of the variables that the words name masked.

    Paths that are there, and values of up to three characters, are no secret.
    """
    secrets = {os.environ.get(name, "") for name in _named(words)}
    hidden = sorted((s for s in secrets if len(s) > 3 and not Path(s).exists()), key=len)
    if not hidden:
        return value
    anyone = re.compile("|".join(map(re.escape, reversed(hidden))))

    def hide(inner: Any) -> Any:
        if isinstance(inner, dict):
            return {key: hide(each) for key, each in inner.items()}
        if isinstance(inner, list | tuple):
            return [hide(each) for each in inner]
        return anyone.sub(mask, inner) if isinstance(inner, str) else inner

    return hide(value)
