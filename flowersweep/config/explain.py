"""Why words do not compose: which key, option or file is wrong, and what there is instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from flowersweep.config.files import (
    config_folder,
    group_names,
    option_names,
    read_sweep,
    read_yaml,
    sweep_files,
    user_folder,
)
from flowersweep.config.paths import flatten
from flowersweep.config.schema import Config
from flowersweep.config.words import shorten
from flowersweep.errors import ConfigError, did_you_mean

Compose = Callable[[tuple[str, ...]], Config]


def explained(error: Exception, parsed: Sequence[Override], compose: Compose) -> ConfigError:
    """Return what to say of an error of Hydra or OmegaConf.

    Args:
        error: What they raised.
        parsed: The words.
        compose: Composes other words, to see which keys there are.
    """
    for override in parsed:
        key, value = override.key_or_group, override.value()
        if key in (*group_names(), "sweep"):
            if isinstance(value, str) and value not in option_names(key):
                return _unknown_option(key, value)
        elif (isinstance(error, FrozenInstanceError) or not override.is_add()) and key not in (
            known := _known_keys(parsed, compose)
        ):
            parent = key.rpartition(".")[0]
            if parent in known and not any(k.startswith(f"{parent}.") for k in known):
                parent = parent.rpartition(".")[0]  # a key of no keys
            near = [k for k in known if k.rpartition(".")[0] == parent] or known
            return ConfigError(
                f"unknown key {shorten(key)!r}. " + did_you_mean(key, near, "Keys there")
            )
    own = own_files(parsed)
    for file in own:
        read_yaml(file)
    # Hydra says which override, OmegaConf beneath it what is wrong with it
    cause = error.__cause__ or error
    text = re.sub(
        r"\s*\n\s*(full_key: (?P<key>\S+)|(object|reference)_type=.*)",
        lambda m: f" ({m['key']})" if m["key"] else "",
        str(cause),
    )
    hint = "`python -m flowersweep config` shows every key with its value"
    return ConfigError(f"{shorten(' '.join(text.split()), 500)}. {hint}{name_files(own)}")


def name_files(own: Sequence[Path]) -> str:
    """Name the user's own files at the end of a message."""
    return f". Files of your own in it: {', '.join(map(str, own))}" if own else ""


def _unknown_option(group: str, name: str) -> ConfigError:
    folder = user_folder("sweeps") if group == "sweep" else user_folder("conf") / group
    for file in folder.glob("*.yml"):
        if file.stem == name:
            return ConfigError(f"no {group} {name!r}: {file} must be named {name}.yaml")
    return ConfigError(
        f"no {group} {shorten(name)!r}. "
        + did_you_mean(name, option_names(group), f"{group.capitalize()} options")
    )


def own_files(parsed: Sequence[Override]) -> list[Path]:
    """Return the user's own files that these words and the defaults of their sweep choose."""
    defaults = [*read_yaml(config_folder("conf") / "config.yaml")["defaults"]]
    groups = {*group_names(), "sweep"}
    words = {o.key_or_group: str(o.value()) for o in parsed if isinstance(o.value(), str)}
    words = {group: name for group, name in words.items() if group in groups}
    sweep = sweep_files().get(words.get("sweep", ""))
    if sweep is not None:
        defaults += read_sweep(sweep).get("defaults") or []
    chosen = {
        str(key).rpartition("/")[2]: str(name)
        for entry in defaults
        if isinstance(entry, Mapping | DictConfig)
        for key, name in entry.items()
    }
    files = [
        user_folder("conf") / group / f"{name}.yaml" for group, name in {**chosen, **words}.items()
    ]
    if sweep is not None and sweep.parent == user_folder("sweeps"):
        files.append(sweep)
    return [file for file in files if file.is_symlink() or file.exists()]


def _known_keys(parsed: Sequence[Override], compose: Compose) -> Collection[str]:
    """Return the keys that exist with the chosen options of groups, and the parts they lie in."""
    groups = {*group_names(), "sweep"}
    chosen = tuple(o.input_line for o in parsed if o.input_line and o.key_or_group in groups)
    leaves = [path for path, _ in flatten(compose(chosen if len(chosen) < len(parsed) else ()))]
    inner = (path.split(".")[:n] for path in leaves for n in range(1, path.count(".") + 1))
    return dict.fromkeys([*leaves, *map(".".join, inner)])
