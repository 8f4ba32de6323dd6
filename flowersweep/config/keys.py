"""Role, range and choices of each key of a configuration, read from its field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_origin, get_type_hints

from flowersweep.config import schema
from flowersweep.config.paths import Settings, flatten
from flowersweep.config.setting import LABEL, SEARCH, TRAINED, Range, Role

COMPARED = (TRAINED, SEARCH, LABEL)  # what must stay the same while a study goes on


@dataclass(frozen=True)
class Key:
    """A field of the configuration. A ``group`` has fields of its own."""

    role: Role
    range: Range | None
    choices: tuple[str, ...]
    ranges: dict[str, Range]
    comparable: bool
    type: Any
    group: bool


@cache
def _keys(kind: type) -> dict[str, Key]:
    return dict(_walk(kind, ""))


def _walk(kind: type, prefix: str) -> Iterator[tuple[str, Key]]:
    types = get_type_hints(kind)
    for entry in fields(kind):
        group = is_dataclass(types[entry.name])
        yield f"{prefix}{entry.name}", Key(**entry.metadata, type=types[entry.name], group=group)
        if group:
            yield from _walk(types[entry.name], f"{prefix}{entry.name}.")


def known_paths() -> list[str]:
    """Return the dotted paths of all keys and groups of the schema."""
    return [*_keys(schema.Config)]


def role_of(path: str) -> Role | None:
    """Return the role of a key or group by its dotted path; None if there is no such key.

    A key of an option's file has the role of its group; its ``name`` is a label.
    """
    keys, parent = _keys(schema.Config), path
    while parent not in keys:
        parent = parent.rpartition(".")[0]
        if not parent:
            return None
    key = keys[parent]
    if parent != path and key.group:
        return None
    return LABEL if parent != path and path.endswith(".name") and key.role is TRAINED else key.role


def range_of(path: str) -> Range | None:
    """Return the smallest and the largest value that make sense for a key; None if unknown."""
    keys = _keys(schema.Config)
    if path in keys:
        return keys[path].range
    group, _, name = path.rpartition(".")
    return keys[group].ranges.get(name) if group in keys else None


def choices_of(path: str) -> tuple[str | None, ...]:
    """Return the words that a key may be; none if it may be any."""
    key = _keys(schema.Config).get(path)
    if key is None or not key.choices:
        return ()
    return (*key.choices, None) if key.type == str | None else key.choices


def is_text(path: str) -> bool:
    """Say whether a key is text or names an option of a group: 1.10 is then no number."""
    keys = _keys(schema.Config)
    key = keys.get(path)
    if key is None:
        group = keys.get(path.rpartition(".")[0])
        return group is not None and group.type == dict[str, str]
    return key.type in (str, str | None) or has_options(path)


def has_options(path: str) -> bool:
    """Say whether a key is set to the name of a file, or is a part of the configuration."""
    return "." not in path and (path in ("verb", "recipe") or is_group(path))


def is_switch(path: str) -> bool:
    """Say whether a key is true or false."""
    key = _keys(schema.Config).get(path)
    return key is not None and key.type is bool


def is_texts(path: str) -> bool:
    """Say whether a key is a list of texts."""
    key = _keys(schema.Config).get(path)
    return key is not None and key.type == list[str]


def is_group(path: str) -> bool:
    """Say whether a key holds keys: a part of the configuration, or an option's file."""
    key = _keys(schema.Config).get(path)
    return key is not None and (key.group or get_origin(key.type) is dict)


def is_comparable(path: str) -> bool:
    """Say whether trials that differ in this key or group alone are judged by the same images."""
    return all(
        key.comparable
        for name, key in _keys(schema.Config).items()
        if is_within(name, path) or is_within(path, name)
    )


def settings_with_role(config: schema.Experiment, *roles: Role) -> Settings:
    """Return the settings of a configuration that have one of these roles, by dotted path."""
    return {path: value for path, value in flatten(config) if role_of(path) in roles}


def key_of(word: str) -> str:
    """Return the key or group that a word of a command line sets: ``data.dir`` of
    ``+data.dir=PATH``.
    """
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def says(words: Iterable[str], *groups: str) -> bool:
    """Say whether one of these words sets one of these keys or groups, or something in one."""
    return any(is_within(key_of(word), *groups) for word in words)


def is_within(path: str, *groups: str) -> bool:
    """Say whether a dotted path is one of these keys or groups, or lies in one: ``data`` holds
    ``data.dir``, and not ``database``.
    """
    return any(path == group or path.startswith(f"{group}.") for group in groups)
