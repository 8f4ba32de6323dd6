"""The words of a command line: Hydra's grammar, in which text stays as it was typed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from flowersweep.config.keys import has_options, is_text, is_texts, key_of, role_of
from flowersweep.config.paths import Settings, flatten
from flowersweep.config.setting import Role
from flowersweep.errors import ConfigError

LONGEST = 5000  # characters: Hydra's parser needs a second for a list of that length
DEEPEST = 20  # brackets in brackets
# text that needs no quotes
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_/][\w./+-]*", re.IGNORECASE)


def parse(words: Iterable[str]) -> list[Override]:
    """Parse words of the command line.

    What is typed for a key of text stays text: ``study=1.10`` is the study 1.10, and ``model=50``
    the model 50.

    Raises:
        ConfigError: A word is not of Hydra's grammar, means nothing here, or names several values.
    """
    return [_parse(word) for word in words]


def settings_of(parsed: Sequence[Override]) -> Settings:
    """Return what words set, by dotted path: ``train={epochs: 3}`` sets ``train.epochs``."""
    settings: Settings = {}
    for override in parsed:
        value = override.value()
        opened = isinstance(value, Mapping)
        settings |= dict(
            flatten(value, override.key_or_group) if opened else [(override.key_or_group, value)]
        )
    return settings


def as_word(value: Any) -> str:
    """Write a value in the grammar of words; a float with all of its digits.

    Raises:
        TypeError: It is more than plain data.
    """
    match value:
        case None | bool():
            return "null" if value is None else str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return value if PLAIN.fullmatch(value) else _quoted(value)
        case list() | tuple():
            return f"[{','.join(map(as_word, value))}]"
        case Mapping():
            pairs = (f"{key}: {as_word(inner)}" for key, inner in value.items())
            return f"{{{', '.join(pairs)}}}"
    raise TypeError("must be a number, text, a switch, null, or a list or mapping of them")


def require_readable(text: str, where: str) -> None:
    """Raise ConfigError for text that Hydra's parser would need too long or too much stack for."""
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if len(text) > LONGEST or deepest > DEEPEST:
        raise ConfigError(
            f"{where}{shorten(text)!r} has {len(text)} characters and {deepest} brackets in "
            f"brackets: at most {LONGEST} and {DEEPEST} are read"
        )


def shorten(text: str, length: int = 80) -> str:
    """Return text as a message shows it."""
    return text if len(text) <= length else f"{text[:length]}..."


def _parse(word: str) -> Override:
    require_readable(word, "")
    key = key_of(word)
    if key.partition(".")[0].partition("/")[0] == "hydra":
        raise ConfigError(
            f"{shorten(word)!r}: Hydra only composes the configuration here, and its own settings "
            "have no effect. Results go to dir=PATH"
        )
    try:
        if not key:
            raise ValueError("it names no key")
        override = _as_text(key, word) or _parsed(word)
    except (HydraException, ValueError) as error:
        raise ConfigError(
            f"{shorten(word)!r} is not of the form key=value: "
            f"{shorten(str(error).partition(chr(10))[0])}"
        ) from None
    if override.is_sweep_override() and not word.startswith("sweep."):
        raise ConfigError(
            f"{shorten(word)!r} names several values: put it into a sweep's space "
            f"(sweep.space.NAME.values={shorten(word.partition('=')[2])!r})"
        )
    if has_options(key):
        _require_option(key, override)
    return override


def _parsed(word: str) -> Override:
    return OverridesParser.create().parse_override(word)


def _as_text(key: str, word: str) -> Override | None:
    """Return the override of a word for a key of text; None if Hydra reads the word as meant."""
    setter, equals, typed = word.partition("=")
    if not equals or word.startswith("~"):
        return None
    if is_texts(key) and (inside := re.fullmatch(r"\s*\[([^\[\]{}()'\"]*)\]\s*", typed)):
        texts = [text.strip() for text in inside[1].split(",") if text.strip()]
        return _parsed(f"{setter}=[{','.join(map(_quoted, texts))}]")
    if not is_text(key):
        return None
    quoted = f"{setter}={_quoted(typed.strip())}"
    try:
        override = _parsed(word)
    except (HydraException, ValueError):
        # brackets in a path, an equals sign in a reason
        return None if has_options(key) else _parsed(quoted)
    several = override.is_sweep_override() and role_of(key) is not Role.TRAINED
    number = isinstance(override.value(), bool | int | float)
    return _parsed(quoted) if number or several else override


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()


def _require_option(key: str, override: Override) -> None:
    """Raise ConfigError for a group that is removed, or set to anything but a name or keys."""
    named = isinstance(override.value(), str | Mapping) and override.package is None
    if override.is_delete() or not named:
        raise ConfigError(
            f"{shorten(str(override.input_line))!r}: {key} is one option, {key}=NAME, or a mapping "
            "of its keys"
        )
