"""The door to Hydra: from conf/, sweeps/ and the words of a command line to one Config, or one
message that says what is wrong.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, replace
from functools import lru_cache
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import BooleanNode, DictConfig, FloatNode, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from flowersweep.config.paths import flatten
from flowersweep.config.registry import PUBLIC
from flowersweep.config.said import require_local, require_said, variables_of
from flowersweep.config.schema import Config, Data
from flowersweep.config.validation import require_options, validate
from flowersweep.config.words import parse as parse
from flowersweep.config.words import settings_of, shorten
from flowersweep.errors import ConfigError, did_you_mean

log = logging.getLogger(__name__)


_snapshot: Path | None = None  # a copy of all YAML files, while a study composes from it


def config_folder(name: str) -> Path:
    """Return where our ``conf`` or ``sweeps`` lies: in an installed package, or beside it in a
    checkout.
    """
    if _snapshot is not None:
        return _snapshot / "ours" / name
    package = Path(__file__).parents[1]
    return package / name if (package / name).is_dir() else package.parent / name


def user_folder(name: str) -> Path:
    """Return where the user's own ``conf`` or ``sweeps`` lies."""
    return (Path.cwd() if _snapshot is None else _snapshot / "user") / name


@contextmanager
def frozen_files() -> Iterator[None]:
    """Compose from a copy of the YAML files as they are now.

    A trial that is composed after somebody edited one would otherwise be another than the study
    began with.
    """
    global _snapshot
    before = _snapshot
    with TemporaryDirectory(prefix="flowersweep-conf-") as folder:
        for owner, find in (("ours", config_folder), ("user", user_folder)):
            for name in ("conf", "sweeps"):
                for file in _copied_files(find(name)):
                    copy = Path(folder, owner, name, file.relative_to(find(name)))
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copyfile(file, copy)
        _snapshot = Path(folder)
        try:
            yield
        finally:
            _snapshot = before


def _copied_files(folder: Path) -> Iterator[Path]:
    """Yield the YAML files of a ``conf`` or ``sweeps``, without hidden and unreadable ones."""
    for depth in ("*.yaml", "*/*.yaml", "*/*/*.yaml"):
        for file in sorted(folder.glob(depth)):
            if file.is_file() and os.access(file, os.R_OK) and not file.name.startswith("."):
                yield file


class UserConf(SearchPathPlugin):
    """Finds the user's own ``./conf`` before ours, so that theirs wins on a clash."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        own = user_folder("conf")
        if own.is_dir() and own != config_folder("conf"):
            # no as_uri(): Hydra does not decode what it escapes
            search_path.prepend("user", f"file://{own}")


def sweep_files() -> dict[str, Path]:
    """Return the sweeps there are, by name; those in the user's ``./sweeps`` come last and win."""
    folders = (config_folder("sweeps"), user_folder("sweeps"))
    return {file.stem: file for each in folders for file in _named(each, "yaml")}


def _named(folder: Path, suffix: str) -> list[Path]:
    """Return what is named ``*.suffix`` in a folder, dangling links too; no hidden files, which
    macOS writes beside each file on foreign disks.
    """
    return sorted(file for file in folder.glob(f"*.{suffix}") if not file.name.startswith("."))


def _register_sweeps(asked: Iterable[str]) -> None:
    store = ConfigStore.instance()
    for name, file in sweep_files().items():
        try:
            node = _loaded_sweep(file)
        except ConfigError as error:
            if name in asked:
                raise
            if _snapshot is None:  # a study that runs has said so at its start
                log.warning("%s. It is left out", error)
            continue
        # every sweep is a search, and names its study
        node = node.copy()
        defaults = node.get("defaults") or []
        node["defaults"] = [*defaults, {"override /verb": "search"}, "_self_"]
        node.setdefault("study", name)
        store.store(group="sweep", name=name, node=node, package="_global_", provider=str(file))


def _loaded_sweep(file: Path) -> DictConfig:
    """Return the content of a sweep's file. Raises ConfigError if it cannot be one."""
    node = _read(file)
    if not isinstance(node.get("defaults") or [], list | ListConfig):
        raise ConfigError(f"{file} is no sweep: its defaults must be a list")
    if isinstance(study := node.get("study"), float):
        raise ConfigError(f"{file}: study is the number {study} there; put the name in quotes")
    if "hydra" in node:
        raise ConfigError(f"{file} sets hydra, which has no effect here: take it out")
    return node


def _read(file: Path) -> DictConfig:
    """Return the mapping in a YAML file. Raises ConfigError that names the file."""
    try:
        node = _loaded(file, file.stat().st_mtime_ns)
    except FileNotFoundError:
        raise ConfigError(f"{file} is a link to a file that is not there") from None
    except _UNREADABLE as error:
        text = shorten(" ".join(str(error).split()), 300) or type(error).__name__
        raise ConfigError(f"{file} cannot be read: {text}") from None
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{file} cannot be read: it must be a mapping of keys to values")
    return node


# what OmegaConf raises for what is no YAML, no text, or not there
_UNREADABLE = (YAMLError, OmegaConfBaseException, OSError, UnicodeError, RecursionError)


@lru_cache  # reading all of them anew was a fifth of a composition
def _loaded(file: Path, changed: int) -> Any:
    return OmegaConf.load(file)


@lru_cache
def _schema() -> DictConfig:
    """Config as Hydra may merge into it: OmegaConf takes a frozen dataclass for read-only."""
    node = OmegaConf.structured(Config)
    assert isinstance(node, DictConfig)
    _open(node)
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
    _register_sweeps(str(o.value()) for o in parsed if o.key_or_group == "sweep")
    GlobalHydra.instance().clear()
    Plugins.instance().register(UserConf)
    store = ConfigStore.instance()
    store.store(name="flowersweep_schema", node=_schema())
    # by a name of ours: ./conf may be of another Hydra project, with a config.yaml of its own
    store.store(name="flowersweep", node=_read(config_folder("conf") / "config.yaml"))
    with (
        initialize_config_dir(str(config_folder("conf")), version_base="1.3"),
        variables_of(overrides),
    ):
        try:
            node = hydra_compose("flowersweep", [str(o.input_line) for o in parsed])
            config = OmegaConf.to_object(node)
        except (HydraException, FrozenInstanceError, OverflowError, *_UNREADABLE) as error:
            raise _explained(error, parsed) from None
    assert isinstance(config, Config)
    _name_public(config.model.backbone)
    for member in (config.model.members or {}).values():
        _name_public(member.get("backbone"))
    try:
        require_options(config)
    except ConfigError as error:
        raise ConfigError(f"{error}{_in_files(_own_files(parsed))}") from None
    return config


def _name_public(spec: Any) -> None:
    """Put the registered name in the place of a path into ``flowersweep.testing``."""
    if isinstance(spec, dict) and spec.get("_target_") in PUBLIC:
        spec["_target_"] = PUBLIC[spec["_target_"]]


def compose(overrides: Sequence[str]) -> Config:
    """Return the checked Config of these overrides.

    Raises ConfigError naming what exists and what to do, before anything else is done.
    """
    config = compose_unchecked(tuple(overrides))
    require_said(config, overrides)
    try:
        return validate(config)
    except ConfigError as error:
        own = [
            file for file in _own_files(parse(overrides)) if f"{file.parent.name}." in str(error)
        ]
        raise ConfigError(f"{error}{_in_files(own)}") from None


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


IMAGES = {"data", "data.name", "data.dir", "data.file", "data.fetch"}  # keys that say which images


def recorded_or_named(overrides: Iterable[str], named: Data, recorded: Data) -> Data:
    """Return which images a command means: those that it names, or those of an earlier command.

    A word such as ``data.cache_bytes=0`` names no images: it holds for the recorded ones too.

    Args:
        named: What the whole command line composes to.
        recorded: The images of the study or model that the command is about.
    """
    keys = settings_of(parse(overrides)).keys()
    if keys & IMAGES or any(key.startswith("data.fetch.") for key in keys):
        return named
    own = {key.partition(".")[2].partition(".")[0] for key in keys if key.startswith("data.")}
    require_own_images(replace(recorded, extra=[]) if "extra" in own else recorded)
    return replace(recorded, **{field: getattr(named, field) for field in own})


def require_own_images(recorded: Data) -> None:
    """Raise ConfigError if recorded images lie at an address, or are fetched over the network in a
    way that no option of ``data`` here has: whoever recorded them may be a stranger.
    """
    require_local(recorded)
    fetch = recorded.fetch
    if recorded.dir is not None or fetch is None or fetch.get("_target_") == "synthetic":
        return
    named = (f"data={recorded.name}",) if recorded.name in option_names("data") else ()
    option = compose_unchecked(named).data.fetch if named else None
    # another folder of the same download is no other place
    if not option or {**option, **fetch, "folder": option.get("folder")} != option:
        raise ConfigError(
            f"the images of data={recorded.name} are fetched by {fetch}, as no option of data here "
            "says. Name the images: data.dir=PATH or data=NAME"
        )


def option_names(group: str) -> list[str]:
    """Return the names a config group can be set to, ours and the user's."""
    if group == "sweep":
        return sorted(sweep_files())
    return sorted(
        {
            file.stem
            for each in (config_folder("conf"), user_folder("conf"))
            for file in _named(each / group, "yaml")
        }
    )


def group_names() -> list[str]:
    """Return the names of the config groups, ours and the user's."""
    return sorted(
        {
            sub.name
            for each in (config_folder("conf"), user_folder("conf"))
            if each.is_dir()
            for sub in each.iterdir()
            if sub.is_dir()
        }
    )


def _explained(error: Exception, parsed: Sequence[Override]) -> ConfigError:
    for override in parsed:
        key, value = override.key_or_group, override.value()
        if key in (*group_names(), "sweep"):
            if isinstance(value, str) and value not in option_names(key):
                return _unknown_option(key, value)
        elif (isinstance(error, FrozenInstanceError) or not override.is_add()) and key not in (
            known := _known_keys(parsed)
        ):
            parent = key.rpartition(".")[0]
            near = [k for k in known if k.rpartition(".")[0] == parent] or [*known]
            return ConfigError(
                f"unknown key {shorten(key)!r}. " + did_you_mean(key, near, "Keys there")
            )
    own = _own_files(parsed)
    for file in own:
        _read(file)
    # Hydra says which override, OmegaConf beneath it what is wrong with it
    cause = error.__cause__ or error
    text = re.sub(
        r"\s*\n\s*(full_key: (?P<key>\S+)|(object|reference)_type=.*)",
        lambda m: f" ({m['key']})" if m["key"] else "",
        str(cause),
    )
    hint = "`python -m flowersweep config` shows every key with its value"
    return ConfigError(f"{shorten(' '.join(text.split()), 500)}. {hint}{_in_files(own)}")


def _in_files(own: Sequence[Path]) -> str:
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


def _own_files(parsed: Sequence[Override]) -> list[Path]:
    """Return the user's own files that these words and the defaults of their sweep choose."""
    defaults = [*_read(config_folder("conf") / "config.yaml")["defaults"]]
    groups = {*group_names(), "sweep"}
    words = {o.key_or_group: str(o.value()) for o in parsed if isinstance(o.value(), str)}
    words = {group: name for group, name in words.items() if group in groups}
    sweep = sweep_files().get(words.get("sweep", ""))
    if sweep is not None:
        defaults += _loaded_sweep(sweep).get("defaults") or []
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


def _known_keys(parsed: Sequence[Override]) -> Mapping[str, Any]:
    """The keys that exist in addition to the chosen groups."""
    chosen = tuple(
        o.input_line for o in parsed if o.input_line and o.key_or_group in (*group_names(), "sweep")
    )
    config = compose_unchecked(chosen if len(chosen) < len(parsed) else ())
    leaves = dict(flatten(config))
    inner = {
        ".".join(key.split(".")[:n]): None for key in leaves for n in range(1, key.count(".") + 1)
    }
    return {**leaves, **inner}
