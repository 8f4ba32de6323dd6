"""Mask passwords, tokens and keys in everything that is sent to MLflow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

MASK = "***"

# Anywhere in a name, and as one of its words.
_SECRET = re.compile(
    "token|passw|passphrase|secret|credential|signature|connection_?string|conn_?str", re.IGNORECASE
)
_WORDS = {
    *("key", "keys", "apikey", "pass", "pwd", "pgpass", "auth", "oauth", "sas", "sig", "jwt"),
    *("dsn", "cookie", "cookies"),
}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# The login of an address. A password may hold "/", "@" and blanks; a port is no password.
_URL_LOGIN = re.compile(
    r"""(\b[a-z][a-z0-9+.-]*://)(?:
        [^/\s:@?\#]*:(?!\d{1,5}(?:[/\s?\#]|$)|\s)(?:(?!://|"[,}])\S)*  # user:password
      | [^/\s:@?\#]*:(?!\d{1,5}(?:[/\s?\#]|$)|\s)(?:(?!://|"[,}])[^\n]){1,200}?
      | [^/\s]*
    )@(?=[\w.\[-])""",
    re.IGNORECASE | re.VERBOSE,
)
# How tokens of well-known services begin.
_KINDS = (
    r"hf_|gh[opsur]_|github_pat_|glpat-|sk-|[sr]k_(?:live|test)_|xox[abeprs]-|AKIA|ASIA|AIza|dapi|"
    r"ya29\.|npm_|pypi-|dop_v1_|shpat_|SG\.|gsk_|nvapi-|KGAT_|AGE-SECRET-KEY-"
)
_TOKEN = re.compile(
    rf"\b(?:{_KINDS})[\w.-]{{12,}}|\beyJ[\w-]{{5,}}\.[\w-]{{5,}}[\w.-]*"
    r"|(?<=\b[Bb]earer )(?=\S*\d)[\w.~+/-]{8,}=*"
)
_AUTHORIZATION = re.compile(
    r"""(\bauthorization["']?\s*[:=]\s*["']?(?:(?:[a-z]+)[ ]+)?)[^\s"'][^"'\n]*""", re.IGNORECASE
)
_PRIVATE = re.compile(
    r"(-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----).*?"
    r"(-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_NAME = re.compile(
    r"""(?:%[0-9A-F]{2})?([\w.~-]+)(?:['"]?\]?\s*(?:[=:]|%3[AD])\s*|(?<=\w)\s+)(?=\S)"""
)
# Also matches token: str = "abc", and TOKEN = ( with the text on the next line.
_NAME_IN_CODE = re.compile(
    r"""([\w.]+)['"]?\]?(?:\s*:\s*[\w.\[\] |]+?\s*=|\s*[=:])\s*"""
    r"""(?:\(\s*(?:[+-]\s*)?)?(?=[rbfuRBFU]{0,2}['"])"""
)
# The text may end outside the hunk of the diff.
_TRIPLE = r"""(?:\"{3}(?:.|\n)*?(?:\"{3}|(?=\n@@|\Z))|'{3}(?:.|\n)*?(?:'{3}|(?=\n@@|\Z)))"""
_TEXT = rf"""[rbfuRBFU]{{0,2}}(?:{_TRIPLE}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_VALUE_IN_CODE = re.compile(rf"{_TEXT}(?:\s*(?:[+-]\s*)?{_TEXT})*")
# A value ends at a blank, or where the next name, list entry or bracket begins.
_MORE = (
    r"""(?:\\.|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[;&](?![\w.%~-]+=)"""
    r"""|,(?!\s|$|["']?[\w.~-]+["']?\s*[=:])|[}\])](?=\w)|[^\s,;&}\])\\])*"""
)
_VALUE = re.compile(
    rf"""{_TRIPLE}|\{{[^{{}}]*\}}|\[[^\[\]]*\]|(?:"(?:[^"\\]|\\.)*"|'[^']*')?{_MORE}"""
)
# The value in quotes that opened before the name, as a shell writes 'password=two words'.
_VALUE_IN_QUOTES = {
    '"': re.compile(rf"""(?:[^"\\]|\\.)*(?:"{_MORE})?"""),
    "'": re.compile(rf"""[^']*(?:'{_MORE})?"""),
}


@lru_cache(maxsize=1024)  # the runs of a study have the same names
def secret(name: str) -> bool:
    """Return whether values of this name are secret: ``api_key``, ``tokenFile``; not ``monkey``."""
    words = re.split(r"[^a-z]+", _CAMEL.sub("_", name).lower())
    return bool(_SECRET.search(name)) or not _WORDS.isdisjoint(words)


def masked_text(text: str) -> str:
    """Mask the secrets in a text.

    They are ``user:password@`` in addresses, values of secret names in ``name=value`` and
    ``--name value``, and tokens recognized by their form.
    """
    return _named(_shapes(text), _NAME, _value_in_text)


def masked_message(text: str) -> str:
    """Mask the secrets in a message: tokens, and logins and signatures in addresses.

    A ``key=value`` elsewhere in it is our own advice on what to type.
    """
    return re.sub(r"\S+://\S+", lambda address: masked_text(address[0]), _shapes(text))


def masked_diff(text: str) -> str:
    """Mask the secrets in a diff.

    In Python code only string values of secret names are masked; ``key=lambda ...`` stays.
    """
    parts = re.split(r"(?m)^(?=diff --git )", text)
    return "".join(
        _named(_shapes(part), _NAME_IN_CODE, _value_in_code)
        if part.partition("\n")[0].endswith(".py")
        else masked_text(part)
        for part in parts
    )


def _shapes(text: str) -> str:
    """Mask secrets recognized by their form: logins in addresses, tokens, private keys."""
    text = _AUTHORIZATION.sub(rf"\1{MASK}", _URL_LOGIN.sub(rf"\1{MASK}@", text))
    return _PRIVATE.sub(lambda match: f"{match[1]}{MASK}{match[2]}", _TOKEN.sub(MASK, text))


def _value_in_code(text: str, name: re.Match[str]) -> re.Match[str] | None:
    return _VALUE_IN_CODE.match(text, name.end())


def _value_in_text(text: str, name: re.Match[str]) -> re.Match[str] | None:
    """Return the value behind a name; None where the name is a word of prose.

    ``--token abc`` is an option and its value; ``the token abc`` is prose.
    """
    between = text[name.end(1) : name.end()]
    if not between.strip() and not name[1].startswith("--"):
        return None
    opened = text[: name.start()].rstrip("+")[-1:]
    if opened in _VALUE_IN_QUOTES and opened not in between:
        return _VALUE_IN_QUOTES[opened].match(text, name.end())
    return _VALUE.match(text, name.end())


def _named(
    text: str,
    names: re.Pattern[str],
    find_value: Callable[[str, re.Match[str]], re.Match[str] | None],
) -> str:
    result, start = "", 0
    while match := names.search(text, start):
        end = match.end()
        value = find_value(text, match) if secret(match[1]) else None
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
