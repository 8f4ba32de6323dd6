"""What a training or a sweep is, as frozen dataclasses: the types that every composed configuration must have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from flowersweep.config.schema import Config

Settings = dict[str, Any]  # dotted path -> value


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each leaf of a configuration with its dotted path, in order."""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flatten(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the paths whose values differ, with the old and the new value (``None`` where there is none)."""
    paths = sorted({**old, **new})
    return {p: (old.get(p), new.get(p)) for p in paths if old.get(p) != new.get(p)}


def with_settings(config: Config, settings: Settings) -> Config:
    """Return the configuration with the values at the given dotted paths replaced; the paths must exist."""
    changed: Any = config
    for path, value in settings.items():
        changed = _replaced(changed, path.split("."), value)
    return changed  # type: ignore[no-any-return]


def _replaced(node: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    if isinstance(node, Mapping):
        return {**node, path[0]: _replaced(node[path[0]], path[1:], value)}
    return dataclasses.replace(node, **{path[0]: _replaced(getattr(node, path[0]), path[1:], value)})
