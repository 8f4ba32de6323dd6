"""The words of a command, before Hydra reads them: what people type in place of key=value."""

from __future__ import annotations

from collections.abc import Sequence

from flowersweep.config.files import option_names
from flowersweep.errors import ConfigError, did_you_mean

OPTIONS = ("--help", "--version")


def require_words(words: Sequence[str]) -> None:
    """Raise ConfigError for the first word that is neither the verb nor a setting."""
    for position, word in enumerate(words):
        if fault := _fault(word, position):
            raise ConfigError(fault)


def _fault(word: str, position: int) -> str | None:
    """Say what is wrong with a word, and what to type; None if nothing is."""
    name = word.partition("=")[0]
    if not word.strip():
        return "a word is empty. Is a variable of the shell empty? Settings are key=value"
    if word.startswith("-"):
        return (
            f"no option {name!r}. {did_you_mean(name, OPTIONS, 'Options')} Settings are words "
            "without a dash: train.epochs=3"
        )
    if word.startswith("="):
        return f"{word!r} names no key: key=value"
    if word == "dir=":
        return "dir= names no folder: dir=PATH"
    if name == "sweep" and word.partition("=")[2] in option_names("sweep"):
        return f"a sweep is added with a plus sign: +{word}"
    if "=" in word or word.startswith("~"):
        return None
    return _bare(word, position)


def _bare(word: str, position: int) -> str | None:
    verbs = option_names("verb")
    if word.startswith("+") or "." in word:
        return f"{word!r} has no value: {word}=VALUE"
    if position == 0:
        return None  # the verb
    if word in verbs:
        return f"the verb {word!r} must be the first word"
    if word in option_names("sweep"):
        return f"{word!r} is a bare word: as a sweep +sweep={word}, as a study study={word}"
    return f"{word!r} is a bare word, and only the verb in front is one: perhaps study={word}"
