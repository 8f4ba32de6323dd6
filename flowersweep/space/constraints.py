"""Constraints on the points of a sweep: comparisons, parsed and never run as Python."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowersweep.config.words import require_readable, shorten
from flowersweep.errors import ConfigError, did_you_mean


def _of_numbers(compute: Callable[[float, float], float]) -> Callable[[Any, Any], float]:
    def numeric(left: Any, right: Any) -> float:
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise TypeError(f"{left!r} and {right!r} are not both numbers")
        return compute(float(left), float(right))  # Python integers could grow without bound

    return numeric


ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], float]] = {
    ast.Add: _of_numbers(operator.add),
    ast.Sub: _of_numbers(operator.sub),
    ast.Mult: _of_numbers(operator.mul),
    ast.Div: _of_numbers(operator.truediv),
    ast.Pow: _of_numbers(operator.pow),
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
ALLOWED = (
    "comparisons, and, or, not, + - * / **, numbers, strings in quotes, "
    "parameters and keys of the configuration"
)
DEEPEST = 50  # parts of an expression in one another: a sum of 40 numbers is 40 deep
_STRINGS = re.compile(r"""'[^'\\]*'|"[^"\\]*\"""")
_FOREIGN = re.compile(r"""[\[\]{}\\`#;]|(?<![\w.])(?!(?:and|or|not)")\w+""|['"](?=\w)""")


@dataclass(frozen=True)
class Constraint:
    """A condition that every trial must meet.

    A trial without one of the named parameters meets it.
    """

    text: str
    expression: ast.expr
    searched: dict[str, str]  # name in the text -> short name of the parameter
    settings: dict[str, Any]  # name in the text -> value of a setting that is not searched

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Return whether a point meets the condition; False after a division by zero.

        Raises:
            ConfigError: The expression mixes numbers and text.
        """
        if not all(name in params for name in self.searched.values()):
            return True
        named = {**self.settings, **{name: params[short] for name, short in self.searched.items()}}
        try:
            return bool(_value(self.expression, named))
        except ArithmeticError:
            return False
        except TypeError as error:
            values = ", ".join(f"{name}={value!r}" for name, value in named.items())
            raise _problem(self.text, f"cannot be computed for {values}: {error}") from None


def constraint(
    text: str, parameters: Mapping[str, str], settings: Mapping[str, Any], groups: Collection[str]
) -> Constraint:
    """Read one constraint.

    Args:
        parameters: Names and paths of the searched parameters -> their short names.
        settings: All other settings, by path.
        groups: The searched groups. A setting below one differs between trials.

    Raises:
        ConfigError: The text is not a valid constraint.
    """
    expression = _parsed(text)
    names = _names(expression, text)
    if not isinstance(expression, ast.Compare | ast.BoolOp) and not _is_not(expression):
        raise ConfigError(
            f"sweep.constraints: {shorten(text)!r} compares nothing: write it like 'warmup <= 0.2'"
        )
    for name in names:
        if name not in parameters and name not in settings:
            near = [
                key
                for key in settings
                if "." in name and key.startswith(name.rpartition(".")[0] + ".")
            ]
            raise ConfigError(
                f"sweep.constraints: {shorten(text)!r} names {shorten(name)!r}. "
                + did_you_mean(name, near or parameters, "There are")
            )
        if name not in parameters and (
            group := next((group for group in groups if name.startswith(f"{group}.")), None)
        ):
            raise _problem(
                text, f"names {name!r}, which is another in every {group}, and {group} is searched"
            )
    searched = {name: parameters[name] for name in names if name in parameters}
    fixed = {name: settings[name] for name in names if name not in parameters}
    return Constraint(text, expression, searched, fixed)


def _parsed(text: str) -> ast.expr:
    """Return the expression. Raises ConfigError for what is none, or would take long to read."""
    require_readable(text, "sweep.constraints: ")
    # Python reads strings in strings in strings again and again
    if foreign := _FOREIGN.search(_STRINGS.sub('""', text)):
        raise _problem(text, f"has {foreign[0]!r}. It may have {ALLOWED}")
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _problem(text, f"is no expression. It may have {ALLOWED}") from None
    level: list[ast.AST] = [expression]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise _problem(text, f"is nested more than {DEEPEST} deep. Say it in several constraints")
    return expression


def _problem(text: str, what: str) -> ConfigError:
    return ConfigError(f"sweep.constraints: {shorten(text)!r} {what}")


def _names(node: ast.expr, text: str) -> list[str]:
    """Return the names in an expression. Raises ConfigError if it has a forbidden part."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            return []
        case ast.Name() | ast.Attribute() if dotted := _dotted(node):
            return [dotted]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            parts: Sequence[ast.expr] = [left, right]
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            parts = [operand]
        case ast.BoolOp(values=parts):
            pass
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            type(op) in COMPARISONS for op in ops
        ):
            parts = [left, *others]
        case _:
            raise _problem(text, f"has {ast.unparse(node)!r}. It may have {ALLOWED}")
    return list(dict.fromkeys(name for part in parts for name in _names(part, text)))


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return before and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def _is_not(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _value(node: ast.expr, named: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.BinOp(left=left, op=op, right=right):
            return ARITHMETIC[type(op)](_value(left, named), _value(right, named))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, named)
        case ast.UnaryOp(operand=operand):
            return -_value(operand, named)
        case ast.BoolOp(op=op, values=values):
            return (all if isinstance(op, ast.And) else any)(_value(part, named) for part in values)
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [_value(side, named) for side in (left, *others)]
            return all(
                COMPARISONS[type(op)](a, b) for op, a, b in zip(ops, sides, sides[1:], strict=False)
            )
    return named[str(_dotted(node))]
