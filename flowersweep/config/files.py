"""The YAML files of a configuration: ours and the user's, as they are or as a study copied them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from flowersweep.config.own_functions import options
from flowersweep.config.words import shorten
from flowersweep.errors import ConfigError

# what OmegaConf raises for what is no YAML, no text, or not there
UNREADABLE = (YAMLError, OmegaConfBaseException, OSError, UnicodeError, RecursionError)
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


def uses_frozen_files() -> bool:
    """Say whether a study composes from a copy of the files."""
    return _snapshot is not None


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


def sweep_files() -> dict[str, Path]:
    """Return the sweeps there are, by name; those in the user's ``./sweeps`` come last and win."""
    folders = (config_folder("sweeps"), user_folder("sweeps"))
    return {file.stem: file for each in folders for file in _yaml_files(each)}


def _yaml_files(folder: Path) -> list[Path]:
    """Return the YAML files of a folder, dangling links too. Hidden files are left out: macOS
    writes one next to each file on foreign disks.
    """
    return sorted(file for file in folder.glob("*.yaml") if not file.name.startswith("."))


def option_names(group: str) -> list[str]:
    """Return the names a config group can be set to, ours and the user's."""
    if group == "sweep":
        return sorted(sweep_files())
    return sorted({*_option_files(group), *(own.option["name"] for own in options(group))})


def require_free_name(group: str, name: str) -> None:
    """Raise ConfigError if there is a file of this option, which would win over a function."""
    if name in _option_files(group):
        raise ConfigError(f"{group}={name}: there is a file of this name. Name yours otherwise")


def _option_files(group: str) -> set[str]:
    folders = (config_folder("conf"), user_folder("conf"))
    return {file.stem for each in folders for file in _yaml_files(each / group)}


def group_names() -> list[str]:
    """Return the names of the config groups, ours and the user's."""
    folders = (config_folder("conf"), user_folder("conf"))
    return sorted({sub.name for each in folders for sub in each.glob("*/")})


def read_sweep(file: Path) -> DictConfig:
    """Return the content of a sweep's file. Raises ConfigError if it cannot be one."""
    node = read_yaml(file)
    if not isinstance(node.get("defaults") or [], list | ListConfig):
        raise ConfigError(f"{file} is no sweep: its defaults must be a list")
    if isinstance(study := node.get("study"), float):
        raise ConfigError(f"{file}: study is the number {study} there; put the name in quotes")
    if "hydra" in node:
        raise ConfigError(f"{file} sets hydra, which has no effect here: take it out")
    return node


def read_yaml(file: Path) -> DictConfig:
    """Return the mapping in a YAML file. Raises ConfigError that names the file."""
    try:
        node = _loaded(file, file.stat().st_mtime_ns)
    except FileNotFoundError:
        raise ConfigError(f"{file} is a link to a file that is not there") from None
    except UNREADABLE as error:
        text = shorten(" ".join(str(error).split()), 300) or type(error).__name__
        raise ConfigError(f"{file} cannot be read: {text}") from None
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{file} cannot be read: it must be a mapping of keys to values")
    return node


@lru_cache  # reading all of them anew was a fifth of a composition
def _loaded(file: Path, changed: int) -> Any:
    return OmegaConf.load(file)
