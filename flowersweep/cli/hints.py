"""Parts of the next command that a verb suggests: Python and the store."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from flowersweep.config.paths import flatten
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError
from flowersweep.tracking.masking import masked_text


def python() -> str:
    """Return how to call this Python: ``python`` if that resolves to it, else its path."""
    own, named = Path(sys.executable), shutil.which("python")
    if named and Path(named).parent == own.parent:
        return "python"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


RUN = f"{python()} -m flowersweep"


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


def require_format(config: Config, *formats: str) -> None:
    """Raise ConfigError if ``format`` is none of what a verb prints."""
    if config.format not in (None, *formats):
        raise ConfigError(f"format={config.format}: must be {' or '.join(formats)}")
