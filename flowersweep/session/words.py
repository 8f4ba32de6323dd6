"""From what Python says to the words of a command, so that both mean the same.

A positional argument is a word, ``"+sweep=smoothing"``, or a dictionary of settings. A keyword is a
setting. `path_of` has the rule for names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from os import PathLike, fspath
from typing import Any

from flowersweep.config import own_functions
from flowersweep.config.files import require_free_name
from flowersweep.config.keys import has_options, is_group, known_paths
from flowersweep.config.words import as_word
from flowersweep.errors import ConfigError
from flowersweep.space.ranges import Choice, Float, Int

Word = str | Mapping[str, Any]
SPACE = "sweep.space"


def to_words(words: Sequence[Word], settings: Mapping[str, Any]) -> list[str]:
    """Return the words of a command, in the order in which they are given.

    Raises:
        ConfigError: A name is no key, or a value cannot be written.
    """
    written: list[str] = []
    for word in (*words, settings):
        if isinstance(word, str):
            written.append(word)
        elif isinstance(word, Mapping):
            for name, value in word.items():
                written += _setting(path_of(str(name)), value)
        else:
            raise ConfigError(
                f"{word!r} is no word: settings are text such as 'train.epochs=3', dictionaries or "
                "keywords"
            )
    return written


def path_of(name: str) -> str:
    """Return the key that a name means: itself, or the only key that ends with it.

    ``n_trials`` is ``sweep.n_trials``, since no other key is called so. A key of the first level
    (``study``, ``model``, ``seed``) always means itself.

    Raises:
        ConfigError: No key is called so, or several are.
    """
    known = known_paths()
    first = name.partition(".")[0]
    if first in known or first == "sweep" or has_options(first):
        return name
    ends = [path for path in known if path.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        ways = " or ".join(_nested(path) for path in ends)
        raise ConfigError(f"{name}: several keys are called so. Say which: {ways}")
    close = get_close_matches(name, {path.rpartition(".")[2] for path in known}, n=1)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    raise ConfigError(
        f"unknown setting {name!r}.{hint} A key of an option's file is said with its group: "
        "loss={'gamma': 2}. `python -m flowersweep config` shows every key"
    )


def _nested(path: str) -> str:
    first, _, rest = path.partition(".")
    return f"{first}={{{rest!r}: ...}}"


def _setting(path: str, value: Any) -> Iterator[str]:
    """Yield the words that set a key, or the keys in it."""
    if path == SPACE and isinstance(value, Mapping):
        for name, values in value.items():
            yield _parameter(str(name), values)
    elif isinstance(value, Mapping) and _is_part(path):
        rest = dict(value)
        if "name" in rest:
            yield from _setting(path, rest.pop("name"))
        for key, inner in rest.items():
            yield from _setting(f"{path}.{key}", inner)
    else:
        yield f"{'+' * (path == 'sweep')}{path}={_written(path, value)}"


def _is_part(path: str) -> bool:
    """Say whether a mapping at a path says keys one by one, and is not a value as a whole."""
    inner = any(known.startswith(f"{path}.") for known in known_paths())
    return inner or ("." not in path and is_group(path))


def _parameter(name: str, values: Any) -> str:
    """Return the word that adds a parameter to the space, or changes it."""
    short = name.rpartition(".")[2]
    if isinstance(values, Mapping):
        return f"++{SPACE}.{short}={_written(SPACE, values)}"
    path = getattr(values, "path", None) or (name if "." in name else None)
    if isinstance(values, list | tuple):
        values = Choice(*values)
    if isinstance(values, Choice):
        options = (_named(path or name, option) for option in values.options)
        values = Choice(*options, path=values.path, when=values.when)
    if not isinstance(values, Float | Int | Choice | str):
        raise ConfigError(
            f"space[{name!r}]={values!r}: must be Float(low, high), Int(low, high), Choice(a, b, "
            "...) or text in the grammar of sweeps"
        )
    text = values if isinstance(values, str) else values.values()
    try:
        path = path or path_of(short)
    except ConfigError:  # a parameter of the sweep's file, which knows the path
        return f"{SPACE}.{short}.values={_written(SPACE, text)}"
    when = getattr(values, "when", None)
    entry = {"path": path, "values": text, **({"when": dict(when)} if when else {})}
    return f"++{SPACE}.{short}={_written(SPACE, entry)}"


def _named(path: str, value: Any) -> Any:
    """Return the name of a function, which is an option of its group from now on."""
    return register(path, value) if callable(value) else value


def register(group: str, function: Callable[..., Any], **settings: Any) -> str:
    """Make a function of this session an option of a group; return its name.

    Raises:
        ConfigError: The group takes no function, or there is an option of this name.
    """
    name = own_functions.add(group, function, settings).option["name"]
    require_free_name(group, name)
    return str(name)


def _written(path: str, value: Any) -> str:
    """Return a value in the grammar of words."""
    if callable(value):
        return register(path, value)
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a number of NumPy's
        value = value.item()
    try:
        return as_word(fspath(value) if isinstance(value, PathLike) else value)
    except TypeError as error:
        raise ConfigError(f"{path}={value!r}: {error}") from None
