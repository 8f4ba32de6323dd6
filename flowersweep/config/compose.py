"""The door to Hydra: from conf/, sweeps/ and the words of a command line to one Config, or one
message that says what is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import FrozenInstanceError
from functools import lru_cache
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import BooleanNode, DictConfig, FloatNode, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flowersweep.config.command_only import require_command_only, variables_of
from flowersweep.config.explain import explained, name_files, own_files
from flowersweep.config.files import (
    UNREADABLE,
    config_folder,
    read_sweep,
    read_yaml,
    sweep_files,
    user_folder,
    uses_frozen_files,
)
from flowersweep.config.own_functions import options
from flowersweep.config.registry import PUBLIC
from flowersweep.config.schema import Config
from flowersweep.config.validation import require_options, validate
from flowersweep.config.words import parse as parse
from flowersweep.errors import ConfigError

log = logging.getLogger(__name__)


class UserConf(SearchPathPlugin):
    """Finds the user's own ``./conf`` before ours, so that theirs wins on a clash."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        own = user_folder("conf")
        if own.is_dir() and own != config_folder("conf"):
            # no as_uri(): Hydra does not decode what it escapes
            search_path.prepend("user", f"file://{own}")


def _register_sweep(asked: Collection[str]) -> None:
    """Let Hydra know the sweep that is asked for. Log which other files are none."""
    store = ConfigStore.instance()
    for name, file in sweep_files().items():
        try:
            node = read_sweep(file)
        except ConfigError as error:
            if name in asked:
                raise
            if not uses_frozen_files():  # a study that runs has said so at its start
                log.warning("%s. It is left out", error)
            continue
        if name not in asked:
            continue
        # every sweep is a search, and names its study
        node = node.copy()
        defaults = node.get("defaults") or []
        node["defaults"] = [*defaults, {"override /verb": "search"}, "_self_"]
        node.setdefault("study", name)
        store.store(group="sweep", name=name, node=node, package="_global_", provider=str(file))


@lru_cache
def _schema() -> DictConfig:
    """Config as Hydra may merge into it: OmegaConf takes a frozen dataclass for read-only."""
    node = OmegaConf.structured(Config)
    assert isinstance(node, DictConfig)
    _open(node)
    node.tracking.tags._set_flag("struct", False)  # their names are the user's
    return node


def _open(node: DictConfig) -> None:
    node._set_flag("readonly", None)
    for key in node:
        if isinstance(child := node._get_node(key), DictConfig) and not child._is_none():
            _open(child)


@lru_cache(maxsize=64)  # a trial that changes values only shares its composition with all others
def compose_unchecked(overrides: tuple[str, ...]) -> Config:
    """Return the unchecked Config of these overrides.

    Raises ConfigError with what exists and what to do.
    """
    parsed = parse(overrides)
    _register_sweep({str(o.value()) for o in parsed if o.key_or_group == "sweep"})
    Plugins.instance().register(UserConf)
    store = ConfigStore.instance()
    store.store(name="flowersweep_schema", node=_schema())
    # by a name of ours: ./conf may be of another Hydra project, with a config.yaml of its own
    store.store(name="flowersweep", node=read_yaml(config_folder("conf") / "config.yaml"))
    for own in options():
        store.store(group=own.group, name=own.option["name"], node=own.option, provider="session")
    with (
        _own_hydra(),
        initialize_config_dir(str(config_folder("conf")), version_base="1.3"),
        variables_of(overrides),
    ):
        try:
            node = hydra_compose("flowersweep", [str(o.input_line) for o in parsed])
            config = OmegaConf.to_object(node)
        except (HydraException, FrozenInstanceError, OverflowError, *UNREADABLE) as error:
            raise explained(error, parsed, compose_unchecked) from None
    assert isinstance(config, Config)
    _name_public(config.model.backbone)
    for member in (config.model.members or {}).values():
        _name_public(member.get("backbone"))
    try:
        require_options(config)
    except ConfigError as error:
        raise ConfigError(f"{error}{name_files(own_files(parsed))}") from None
    return config


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Within it Hydra is not initialised; afterwards it is as the program around us has it."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before


def _name_public(spec: Any) -> None:
    """Put the registered name in the place of a path into ``flowersweep.testing``."""
    if isinstance(spec, dict) and spec.get("_target_") in PUBLIC:
        spec["_target_"] = PUBLIC[spec["_target_"]]


def compose(overrides: Sequence[str]) -> Config:
    """Return the checked Config of these overrides.

    Raises ConfigError naming what exists and what to do, before anything else is done.
    """
    config = compose_unchecked(tuple(overrides))
    require_command_only(config, overrides)
    try:
        return validate(config)
    except ConfigError as error:
        own = [file for file in own_files(parse(overrides)) if f"{file.parent.name}." in str(error)]
        raise ConfigError(f"{error}{name_files(own)}") from None


def config_from_dict(content: Mapping[str, Any]) -> Config:
    """Return the Config that was written as plain data, checked.

    Raises:
        ConfigError: It is not of this version's keys and types, or has an interpolation, such as
            ``${oc.env:TOKEN}``: whoever wrote the file would read this machine's environment.
    """
    for path, value in _strings("", content):
        if "${" in value:
            raise ConfigError(
                f"the configuration's {path} has an interpolation, {value!r}: it must be plain data"
            )
    try:
        config = OmegaConf.to_object(OmegaConf.merge(_schema(), OmegaConf.create(dict(content))))
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"the configuration is not one of this version: {str(error).splitlines()[0]}"
        ) from error
    assert isinstance(config, Config)
    return validate(config)


def _strings(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the strings in plain data, keys too, with their dotted paths."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield path or str(key), str(key)
            yield from _strings(f"{path}.{key}".lstrip("."), inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _strings(f"{path}.{index}", inner)
    elif isinstance(value, str):
        yield path, value


def typed_value(path: str, value: Any, usual: Any) -> Any:
    """Return a value as the type of a key: ``yes`` of a switch is True, ``'3'`` of a number 3.

    Args:
        usual: The value of the configuration. It says the type where the schema has none: in the
            file of an option.

    Raises:
        ConfigError: The key takes no such value.
    """
    try:
        node = _schema().copy()
        OmegaConf.update(node, path, value, force_add=True)
        typed = OmegaConf.select(node, path)
        if isinstance(usual, bool):
            return BooleanNode(typed)._value()
        if isinstance(usual, int | float) and isinstance(typed, str):
            return FloatNode(typed)._value()
    except (OmegaConfBaseException, OverflowError) as error:
        raise ConfigError(f"{path}={value!r}: {str(error).splitlines()[0]}") from None
    return typed
