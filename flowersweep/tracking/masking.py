"""Mask passwords, tokens and keys in everything that is sent to MLflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MASK = "***"

_SECRET = re.compile("token|passw|secret|credential", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_URL_LOGIN = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s]*@", re.IGNORECASE)
# How tokens of well-known services begin.
_KINDS = "hf_|gh[opsu]_|github_pat_|glpat-|sk-|xox[abp]-|AKIA|ASIA|AIza|dapi"
_TOKEN = re.compile(rf"\b(?:{_KINDS})[\w-]{{12,}}|(?<=\bBearer )[\w.~+/-]{{8,}}=*")
_PRIVATE = re.compile(
    r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_NAME = re.compile(r"""([\w.~-]+)(?:['"]?\]?\s*[=:]\s*|(?<=\w)\s+)(?=\S)""")
# Also matches token: str = "abc", and TOKEN = ( with the text on the next line.
_NAME_IN_CODE = re.compile(
    r"""([\w.]+)['"]?\]?(?:\s*:\s*[\w.\[\] |]+?\s*=|\s*[=:])\s*"""
    r"""(?:\(\s*(?:[+-]\s*)?)?(?=[rbfuRBFU]{0,2}['"])"""
)
# The text may end outside the hunk of the diff.
_TRIPLE = r"""(?:\"{3}(?:.|\n)*?(?:\"{3}|(?=\n@@|\Z))|'{3}(?:.|\n)*?(?:'{3}|(?=\n@@|\Z)))"""
_TEXT = rf"""[rbfuRBFU]{{0,2}}(?:{_TRIPLE}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_VALUE_IN_CODE = re.compile(rf"{_TEXT}(?:\s*(?:[+-]\s*)?{_TEXT})*")
_VALUE = re.compile(rf"""{_TRIPLE}|\{{[^{{}}]*\}}|\[[^\[\]]*\]|"[^"]*"|'[^']*'|[^\s,;&}}\]'"]+""")


@lru_cache(maxsize=1024)  # the runs of a study have the same names
def secret(name: str) -> bool:
    """Return whether values of this name are secret: ``api_key``, ``tokenFile``; not ``monkey``."""
    words = re.split(r"[^a-z]+", _CAMEL.sub("_", name).lower())
    return bool(_SECRET.search(name)) or not {"key", "keys", "apikey"}.isdisjoint(words)


def masked_text(text: str) -> str:
    """Mask the secrets in a text.

    They are ``user:password@`` in addresses, values of secret names in ``name=value`` and
    ``--name value``, and tokens recognized by their form.
    """
    return _named(_shapes(text), _NAME, _VALUE)


def masked_diff(text: str) -> str:
    """Mask the secrets in a diff.

    In Python code only string values of secret names are masked; ``key=lambda ...`` stays.
    """
    parts = re.split(r"(?m)^(?=diff --git )", text)
    return "".join(
        _named(_shapes(part), _NAME_IN_CODE, _VALUE_IN_CODE)
        if part.partition("\n")[0].endswith(".py")
        else masked_text(part)
        for part in parts
    )


def _shapes(text: str) -> str:
    """Mask secrets recognized by their form: logins in addresses, tokens, private keys."""
    text = _URL_LOGIN.sub(rf"\1{MASK}@", text)
    return _PRIVATE.sub(lambda match: f"{match[1]}{MASK}{match[2]}", _TOKEN.sub(MASK, text))


def _named(text: str, names: re.Pattern[str], values: re.Pattern[str]) -> str:
    result, start = "", 0
    while match := names.search(text, start):
        name, end = match[1], match.end()
        # "--token abc" is an option and its value; "the token abc" is prose.
        spaced = not text[match.end(1) : end].strip()
        value = (
            values.match(text, end)
            if secret(name) and (not spaced or name.startswith("--"))
            else None
        )
        result += text[start:end]
        if value:  # line breaks and the patch's line prefixes stay: a patch counts its lines
            result += MASK + "".join(re.findall(r"\n[+ -]?", value[0]))
        start = value.end() if value else end
    return result + text[start:]


def masked(value: Any) -> Any:
    """Return a copy of nested mappings and lists with secrets masked; bools and blanks stay."""
    if isinstance(value, Mapping):
        return {
            name: MASK if secret(str(name)) and _tells(inner) else masked(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(inner) for inner in value]
    return masked_text(value) if isinstance(value, str) else value


def _tells(value: Any) -> bool:
    return value not in (None, "") and not isinstance(value, bool)
