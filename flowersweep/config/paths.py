"""A configuration as settings by dotted path: flattened, compared, changed and merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError

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
    """Return the paths whose values differ, with the old and the new value (``None`` where there is
    none).
    """
    paths = sorted({**old, **new})
    return {p: (old.get(p), new.get(p)) for p in paths if old.get(p) != new.get(p)}


def differences_from(base: Settings, config: Any) -> Settings:
    """Return where a configuration differs from leaves by dotted path: path -> its own value."""
    return {path: new for path, (_, new) in differences(base, dict(flatten(config))).items()}


def with_settings(config: Config, settings: Settings) -> Config:
    """Return the configuration with the values at the given dotted paths replaced.

    Raises ConfigError for a path that does not exist.
    """
    changed: Any = config
    for path, value in settings.items():
        try:
            changed = _replaced(changed, path.split("."), value)
        except (KeyError, AttributeError) as error:
            raise ConfigError(f"{path}={value!r}: this configuration has no such key") from error
    return changed  # type: ignore[no-any-return]


def _replaced(node: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    if isinstance(node, Mapping):
        return {**node, path[0]: _replaced(node[path[0]], path[1:], value)}
    return dataclasses.replace(
        node, **{path[0]: _replaced(getattr(node, path[0]), path[1:], value)}
    )


def merged(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``config`` with dotted paths set: ``merged({"a": {"b": 1}}, {"a.b": 2}) == {"a": {"b":
    2}}``.

    Where the settings choose another option of a group, None means that the option has no such key:
    what is left empty by it goes too.
    """
    whole = deepcopy(dict(config))
    for path, value in settings.items():
        *parents, last = path.split(".")
        chain = [whole]
        for name in parents:
            if not isinstance(chain[-1].get(name), dict):
                chain[-1][name] = {}
            chain.append(chain[-1][name])
        chain[-1][last] = value
        if (
            value is None
            and parents
            and any(f"{parents[0]}.{key}" in settings for key in ("name", "_target_"))
        ):
            del chain[-1][last]
            # up to the group, whose own keys are there in every option
            for depth in range(len(parents) - 1, 0, -1):
                if any(inner is not None for inner in chain[depth + 1].values()):
                    break
                if depth > 1:
                    del chain[depth][parents[depth]]
                else:
                    chain[depth][parents[depth]] = None
    return whole
