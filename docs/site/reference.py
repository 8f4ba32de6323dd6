"""The pages of the reference, made from the schema, the files of the options and the package."""

from __future__ import annotations

import ast
import dataclasses
import html
import inspect
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

import flowersweep
from flowersweep.config import schema
from flowersweep.config.keys import choices_of, range_of, role_of

ROOT = Path(__file__).parents[2]
GROUPS = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"verb"}
ROLES = {
    "trained": "changes what is trained: the same in a study for good",
    "search": "what is searched: the same in a study for good",
    "label": "a name: the same in a study for good",
    "place": "where things lie: may change at every resume",
    "budget": "how much is done: may change at every resume",
    "command": "of one command",
}


def pages() -> dict[str, str]:
    """Return the generated pages by their names."""
    return {"keys.md": keys(), "options.md": options(), "api.md": api()}


def keys() -> str:
    """Return the page of all keys, with their ranges, units and defaults."""
    text = [
        "# Keys",
        "Every key of a configuration, as a command says it: `KEY=VALUE`. *Default* is what holds "
        "if neither the command nor the [option](options.md) of its group says another. "
        "`python -m flowersweep config` prints what your command composes to.",
        "The role says what a change means:",
        "\n".join(f"- **{role}**: {meaning}" for role, meaning in ROLES.items()),
    ]
    for title, prefix, kind in _groups(schema.Config, ""):
        rows = [
            _row(f"{prefix}{field.name}", field, kind, _comments(kind).get(field.name, ""))
            for field in _own_fields(kind)
        ]
        if rows:
            text += [f"## {title}", _summary(kind), _table(rows)]
    return "\n\n".join(text) + "\n"


def _groups(kind: type, prefix: str) -> Iterable[tuple[str, str, type]]:
    yield (f"`{prefix[:-1]}`" if prefix else "A command", prefix, kind)
    types = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(types[field.name]):
            yield from _groups(types[field.name], f"{prefix}{field.name}.")


def _own_fields(kind: type) -> list[Any]:
    types = get_type_hints(kind)
    return [
        field
        for field in dataclasses.fields(kind)
        if not dataclasses.is_dataclass(types[field.name])
    ]


def _summary(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _row(path: str, field: Any, kind: type, meaning: str) -> list[str]:
    role = role_of(path)
    return [
        f"`{path}`",
        meaning
        or ("the name of the option" if path.endswith(".name") else "")
        or (f"[an option](options.md#{path})" if path in GROUPS else ""),
        _values(path, get_type_hints(kind)[field.name]),
        _default(field),
        role.value if role else "",
    ]


def _values(path: str, kind: Any) -> str:
    if choices := choices_of(path):
        return ", ".join(f"`{choice or 'null'}`" for choice in choices)
    kinds = get_args(kind) if NoneType in get_args(kind) else (kind,)
    names = {
        bool: "true, false",
        str: "text",
        int: "whole number",
        float: "number",
        Any: "a callable",
    }
    name = next((names[part] for part in kinds if part in names), _container(kinds[0]))
    if limits := range_of(path):
        low, high = limits
        upper = "" if high == math.inf else f" to {high:.10g}"
        name += f", {low:g}{upper or ' or more'}"
    return f"{name}, or null" if NoneType in kinds else name


def _container(kind: Any) -> str:
    return "list of texts" if get_origin(kind) is list else "keys and values"


def _default(field: Any) -> str:
    value = field.default
    if value is dataclasses.MISSING:
        value = field.default_factory()
    return "the option's" if value == "???" else f"`{_word(value)}`"


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if value == "":
        return "''"
    return str(value)


def _comments(kind: type) -> dict[str, str]:
    """Return the comment above or behind each field of a dataclass and of its bases."""
    comments: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        source = inspect.getsource(base)
        lines = source.splitlines()
        [tree] = ast.parse(source).body
        assert isinstance(tree, ast.ClassDef)
        for node in tree.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                comments[node.target.id] = _comment(lines, node)
    return comments


def _comment(lines: list[str], node: ast.AnnAssign) -> str:
    behind = re.search(r"#\s*(.*)$", lines[node.end_lineno - 1][node.end_col_offset or 0 :])
    above: list[str] = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.strip().startswith("#"):
            break
        above.insert(0, line.strip().lstrip("# "))
    return " ".join([*above, *([behind[1]] if behind else [])])


def options() -> str:
    """Return the page of the options of each group, with their keys, ranges and defaults."""
    text = [
        "# Options of each group",
        "`GROUP=OPTION` takes a file, `conf/GROUP/OPTION.yaml`. These are ours, with what they "
        "set; a file of yours of the same name wins. A range holds for the key in all options. "
        "Kinds of augmentation at 0 are off, and left out.",
    ]
    for folder in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir()):
        if folder.name == "verb":
            continue
        rows = []
        for path in sorted(folder.glob("*.yaml")):
            content = yaml.safe_load(path.read_text()) or {}
            rows.append([f"`{path.stem}`", _settings(folder.name, content), _first_comment(path)])
        text += [f"## `{folder.name}`", _table(rows, ["option", "sets", "is"])]
        if ranges := _ranges(folder.name):
            text.append(_table(ranges, ["key", "range"]))
    return "\n\n".join(text) + "\n"


def _settings(group: str, content: Mapping[str, Any]) -> str:
    shown = []
    for name, value in content.items():
        if name in ("name", "_target_", "defaults") or (
            isinstance(value, dict) and "_target_" in value
        ):
            continue
        if group == "augment" and not value:  # off
            continue
        shown.append(f"`{name}: {_word(value)}`")
    return ", ".join(shown)


def _first_comment(path: Path) -> str:
    line = path.read_text().partition("\n")[0]
    return line.lstrip("# ") if line.startswith("#") and "@package" not in line else ""


def _ranges(group: str) -> list[list[str]]:
    field = schema.Config.__dataclass_fields__.get(group)
    ranges = field.metadata["ranges"] if field else {}
    return [
        [f"`{group}.{name}`", f"{low:g} to {high:.10g}"] for name, (low, high) in ranges.items()
    ]


def api() -> str:
    """Return the page of the Python API: the public names, by their docstrings."""
    homes = {"Study": "session.study.Study"} | {
        name: f"space.ranges.{name}" for name in ("Float", "Int", "Choice")
    }
    names = [name for name in flowersweep.__all__ if name != "errors"]
    functions = [name for name in names if name not in homes]
    entries = [f"flowersweep.api.{name}" for name in functions]
    entries += [f"flowersweep.{home}" for home in homes.values()]
    entries += ["flowersweep.session.model.Model", "flowersweep.session.comparison.Comparison"]
    return "\n\n".join(
        [
            "# Python API",
            "`import flowersweep as fs`, then `fs.search(...)`. "
            "[In Python](python.md) shows them at work.",
            *(f"::: {entry}" for entry in entries),
            "## Errors",
            "::: flowersweep.errors\n    options:\n      show_root_heading: false\n"
            "      show_root_toc_entry: false\n      heading_level: 3",
        ]
    )


def _table(rows: list[list[str]], header: list[str] | None = None) -> str:
    head = header or ["key", "what", "values", "default", "role"]
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _cell(text: str) -> str:
    """Return a text as a cell of a table: what is code stays, all other is no markup."""
    parts = text.split("`")
    plain = [
        part
        if index % 2
        else html.escape(part, quote=False).replace("_", r"\_").replace("*", r"\*")
        for index, part in enumerate(parts)
    ]
    return "`".join(plain).replace("|", r"\|")
