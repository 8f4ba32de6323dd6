"""Parts of the next command that a verb suggests: Python, the study and the store."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from flowersweep.config.paths import flatten
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError, did_you_mean
from flowersweep.tracking.masking import masked_text


def python() -> str:
    """Return how to call this Python: ``python`` if that resolves to it, else its path."""
    own, named = Path(sys.executable), shutil.which("python")
    if named and Path(named).parent == own.parent:
        return "python"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


RUN = f"{python()} -m flowersweep"


def studies(config: Config) -> list[str]:
    """Return the names of the existing studies.

    Raises:
        ConfigError: What ``dir`` names is a file, or lies below one.
    """
    if files := [path for path in (Path(config.dir), *Path(config.dir).parents) if path.is_file()]:
        raise ConfigError(f"dir={config.dir}: {files[0]} is a file. Name a folder: dir=PATH")
    return sorted(
        path.parent.name for path in (Path(config.dir) / "studies").glob("*/journal.jsonl")
    )


def folder_of_study(config: Config, name: str) -> Path:
    """Return the folder of an existing study.

    It is taken from the bucket if `sync.to` names one.

    Raises:
        ConfigError: There is no such study.
    """
    if config.sync.to is not None and name:
        from flowersweep.workflows.buckets import fetch_studies

        fetch_studies(config, [name])
    if name not in studies(config):
        problem = f'no study "{name}" in {config.dir}/' if name else "which study? study=NAME"
        raise ConfigError(f"{problem}. " + did_you_mean(name, studies(config), "Studies"))
    return Path(config.dir) / "studies" / name


def same_store(config: Config) -> str:
    """Return the words that a next command needs to find the same store."""
    words = {
        "dir": config.dir,
        "sync.to": config.sync.to,
        "tracking.uri": config.tracking.uri,
        "tracking.registered_model": config.tracking.registered_model,
        "data.path": config.data.path,
    }
    usual = dict(flatten(Config()))
    return "".join(
        f" {key}={masked_text(str(value))}" for key, value in words.items() if value != usual[key]
    )
