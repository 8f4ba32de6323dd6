"""Parts of the next command that a verb suggests: Python and the store."""

from __future__ import annotations

import os
import shutil
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flowersweep.config.paths import flatten
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError, FlowersweepError
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


def print_links(config: Config, studies: Sequence[str], *, server: str | None) -> str | None:
    """Print where MLflow shows studies: the runs of each, and their comparison.

    Args:
        studies: Their names; one that MLflow does not have is left out.
        server: Address of the server; None if ``tracking.uri`` is one. Otherwise the usual
            address of ``ui`` is printed.

    Returns:
        The first address.
    """
    from flowersweep.tracking import store
    from flowersweep.tracking.pages.experiment import links

    dir, first = Path(config.dir), None
    if server is None and not store.remote(store.address(config.tracking, dir)):
        server = f"http://127.0.0.1:{config.port}"
    for name in studies:
        pages = None
        with suppress(FlowersweepError):  # a damaged study, or a store that is gone by now
            pages = links(dir / "studies" / name / "journal.jsonl", config.tracking, dir, server)
        if pages is not None:
            print(f"  {name}, the runs:    {pages.runs}\n  {name}, compared:    {pages.comparison}")
            first = first or pages.runs
    return first


def open_browser(address: str) -> None:
    """Open a page if somebody sits at a terminal of a desktop."""
    desktop = sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if desktop and sys.stdout.isatty():
        webbrowser.open(address)


def require_format(config: Config, *formats: str) -> None:
    """Raise ConfigError if ``format`` is none of what a verb prints."""
    if config.format not in (None, *formats):
        raise ConfigError(f"format={config.format}: must be {' or '.join(formats)}")
