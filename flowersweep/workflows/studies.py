"""The studies in a store by name, and what a new one needs."""

from __future__ import annotations

from pathlib import Path

from flowersweep.config.files import option_names
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError, did_you_mean


def study_names(config: Config) -> list[str]:
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
    if name not in study_names(config):
        problem = f'no study "{name}" in {config.dir}/' if name else "which study? study=NAME"
        raise ConfigError(f"{problem}. " + did_you_mean(name, study_names(config), "Studies"))
    return Path(config.dir) / "studies" / name


def require_sweep(config: Config) -> None:
    """Raise ConfigError if there is nothing to search, or no name for the study."""
    if not config.sweep.space:
        raise ConfigError(
            f"no sweep is chosen: add +sweep=NAME. Sweeps: {', '.join(option_names('sweep'))}"
        )
    if config.study is None:
        raise ConfigError("a space without a sweep's file needs a name for its study: study=NAME")
