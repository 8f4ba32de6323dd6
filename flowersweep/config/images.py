"""Which images a command means: those that it names, or those of the study or model it is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowersweep.config.command_only import require_local
from flowersweep.config.compose import compose_unchecked
from flowersweep.config.files import option_names
from flowersweep.config.schema import Data
from flowersweep.config.words import parse, settings_of
from flowersweep.errors import ConfigError

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
    named_anew: dict[str, Any] = {"path": None} if "path" in own else {}
    named_anew |= {"extra": []} if "extra" in own else {}
    require_own_images(replace(recorded, **named_anew))
    return replace(recorded, **{field: getattr(named, field) for field in own})


def require_own_images(recorded: Data) -> None:
    """Raise ConfigError if recorded images lie at an address, or are fetched over the network in a
    way that no option of ``data`` here has: whoever recorded them may be a stranger.
    """
    require_local(recorded)
    fetch, path = recorded.fetch, recorded.path
    if recorded.dir is not None or fetch is None or fetch.get("_target_") == "synthetic":
        return
    if path is not None:
        if not Path(path).expanduser().is_dir():
            raise ConfigError(
                f"the images are downloaded as {path}, which only the command may ask for. If you "
                f"trust it: data.path={path}"
            )
        return
    named = (f"data={recorded.name}",) if recorded.name in option_names("data") else ()
    option = compose_unchecked(named).data.fetch if named else None
    # another folder of the same download is no other place
    places = {key: value for key, value in fetch.items() if key != "folder"}
    if not option or {**option, **places} != option:
        raise ConfigError(
            f"the images of data={recorded.name} are fetched by {fetch}, as no option of data here "
            "says. Name the images: data.dir=PATH or data=NAME"
        )
