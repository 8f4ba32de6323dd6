"""Read the parameters of a sweep from the entries of ``sweep.space``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from flowersweep.config.compose import typed_value
from flowersweep.config.files import option_names
from flowersweep.config.keys import is_comparable, role_of
from flowersweep.config.paths import Settings
from flowersweep.config.schema import Config
from flowersweep.config.setting import Role
from flowersweep.errors import ConfigError, did_you_mean
from flowersweep.space.grammar import contains, extremes, parse_distribution

Params = dict[str, Any]  # short name -> value
_FORM = "{path: KEY, values: 'interval(0, 1)', when: {OTHER: VALUE}}"


@dataclass(frozen=True)
class Parameter:
    """One searched parameter: its path, its values, and the conditions on other parameters."""

    name: str
    path: str
    distribution: BaseDistribution
    when: dict[str, list[Any]]  # active only if each named parameter has one of these values

    def active(self, params: Mapping[str, Any]) -> bool:
        """Return whether the values chosen so far meet the conditions of this parameter."""
        return all(params.get(name) in values for name, values in self.when.items())


@dataclass(frozen=True)
class Base:
    """The configuration that a space changes."""

    leaves: Settings  # every setting, by dotted path
    groups: frozenset[str]  # paths of config groups
    words: Settings  # what the command line sets

    def has(self, path: str) -> bool:
        """Return whether the path is a setting or a group."""
        return path in self.leaves or path in self.groups

    def value(self, path: str) -> Any:
        """Return a setting; for a group, the name of its option."""
        return self.leaves.get(path, self.leaves.get(f"{path}.name"))

    def typed(self, path: str, value: Any) -> Any:
        """Return a value as the type of a setting; for a group, the name of an option.

        Raises:
            ConfigError: The setting takes no such value.
        """
        return str(value) if path in self.groups else typed_value(path, value, self.value(path))


def read_parameters(config: Config, base: Base) -> tuple[list[Parameter], Params]:
    """Return the parameters that a sweep searches, and the values that its conditions need.

    A parameter comes after those that its conditions name. It is left out if the command line sets
    it, or if its conditions ask for a value that is fixed to another one.

    Returns:
        The parameters, and name -> value of what is not searched: set by the command line, or
        named in a condition.

    Raises:
        ConfigError: An entry cannot be searched.
    """
    entries = {name: _entry(name, entry) for name, entry in config.sweep.space.items()}
    paths = {name: entry["path"] for name, entry in entries.items()}
    parameters: list[Parameter] = []
    fixed: Params = {}
    for name, entry in entries.items():
        path = entry["path"]
        if not base.has(path):
            if path.rpartition(".")[0] in base.words and entry.get("when"):
                continue  # the chosen option of the group has no such key
            raise _unknown_path(name, path, base)
        _require_searchable(name, path)
        if path in base.words:
            fixed[name] = base.value(path)
            continue
        when = _conditions(name, entry.get("when"), paths, base)
        fixed |= {key: base.value(key) for key in when if key not in paths}
        distribution = _typed(name, path, parse_distribution(name, str(entry["values"])), base)
        parameters.append(Parameter(name, path, distribution, when))
    _require_one_each(parameters)
    return _possible(_ordered(parameters), fixed), fixed


def _possible(parameters: Sequence[Parameter], fixed: Params) -> list[Parameter]:
    """Return the parameters whose conditions the fixed values allow."""
    possible: dict[str, Parameter] = {}
    for parameter in parameters:
        if all(
            fixed[name] in values if name in fixed else name in possible
            for name, values in parameter.when.items()
        ):
            possible[parameter.name] = parameter
    return [*possible.values()]


def _ordered(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Return each parameter after those that its conditions name.

    Raises:
        ConfigError: Conditions go in a circle.
    """
    ordered: list[Parameter] = []
    waiting = {parameter.name: parameter for parameter in parameters}
    while waiting:
        ready = next((p for p in waiting.values() if not waiting.keys() & p.when.keys()), None)
        if ready is None:
            raise ConfigError(
                f"sweep.space: the conditions of {', '.join(waiting)} wait for each other. "
                "Take one `when` out"
            )
        ordered.append(waiting.pop(ready.name))
    return ordered


def _entry(name: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping) or not {"path", "values"} <= entry.keys():
        raise ConfigError(f"sweep.space.{name}: must be of the form {_FORM}, it is {entry!r}")
    if unknown := {*map(str, entry)} - {"path", "values", "when"}:
        raise ConfigError(
            f"sweep.space.{name} has {', '.join(sorted(unknown))}: must be of the form {_FORM}"
        )
    return {**entry, "path": str(entry["path"])}


def _unknown_path(name: str, path: str, base: Base) -> ConfigError:
    parent = path.rpartition(".")[0]
    near = [key for key in base.leaves if parent and key.startswith(f"{parent}.")]
    return ConfigError(
        f"sweep.space.{name}: no key {path!r}. "
        + did_you_mean(path, near or base.groups, "Keys there")
    )


def _require_searchable(name: str, path: str) -> None:
    """Raise ConfigError for a key that no trial can change, or that decides what judges it."""
    where = f"sweep.space.{name}.path={path}"
    if role_of(path) is not Role.TRAINED:
        raise ConfigError(
            f"{where}: no trial can change it. A space has what a training depends on, such as "
            "train.learning_rate"
        )
    if not is_comparable(path):
        raise ConfigError(
            f"{where}: trials would be judged by different images, and the best would be the "
            f"luckiest. Compare studies instead: {path}=VALUE study=NAME"
        )


def _require_one_each(parameters: Sequence[Parameter]) -> None:
    """Raise ConfigError for two parameters of one path, unless no trial can have both."""
    for a, b in combinations(parameters, 2):
        apart = any(
            not any(value in b.when[name] for value in a.when[name])
            for name in a.when.keys() & b.when.keys()
        )
        if a.path == b.path and not apart:
            raise ConfigError(
                f"sweep.space: {a.name} and {b.name} both set {a.path}, and the later would win. "
                "Take one out"
            )


def _typed(name: str, path: str, distribution: BaseDistribution, base: Base) -> BaseDistribution:
    """Return a distribution over values of the type that its key has.

    Raises:
        ConfigError: The key takes no such value, or two choices are the same value.
    """
    try:
        values = [base.typed(path, value) for value in extremes(distribution)]
    except ConfigError as error:
        raise ConfigError(f"sweep.space.{name}: {error}") from None
    if not isinstance(distribution, CategoricalDistribution):
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            raise ConfigError(f"sweep.space.{name}: {path} is no number. Use choice(a, b, ...)")
        return distribution
    if twice := [value for n, value in enumerate(values) if value in values[:n]]:
        raise ConfigError(f"sweep.space.{name}: {twice[0]!r} is twice among the choices")
    return CategoricalDistribution(values)


def _conditions(name: str, when: Any, paths: Mapping[str, str], base: Base) -> dict[str, list[Any]]:
    """Return the conditions of an entry: short name, or path of what is not searched -> values."""
    if not isinstance(when, Mapping | None):
        raise ConfigError(f"sweep.space.{name}: must be of the form {_FORM}, when is {when!r}")
    searched = {path: other for other, path in paths.items()}
    conditions: dict[str, list[Any]] = {}
    for key, values in (when or {}).items():
        other = key if key in paths else searched.get(key, searched.get(_group_of(key)))
        path = _group_of(str(key)) if other is None else paths[other]
        if other is None and not base.has(path):
            raise ConfigError(
                f"sweep.space: a condition names {key!r}. "
                + did_you_mean(str(key), paths, "Parameters")
            )
        listed = values if isinstance(values, list) else [values]
        conditions[path if other is None else other] = [
            _condition_value(f"sweep.space.{name}.when.{key}", path, value, base)
            for value in listed
        ]
    return conditions


def _condition_value(where: str, path: str, value: Any, base: Base) -> Any:
    """Return a value of a condition as the type of its key; an option must exist."""
    if not base.has(path):
        return value  # of a parameter that is left out
    try:
        typed = value if value is None else base.typed(path, value)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if path in base.groups and typed not in option_names(path):
        options = did_you_mean(str(typed), option_names(path), "Options")
        raise ConfigError(f"{where}: no {path} {typed!r}. {options}")
    return typed


def _group_of(path: str) -> str:
    return path.removesuffix(".name")


def requirements(parameter: Parameter, parameters: Sequence[Parameter]) -> dict[str, list[Any]]:
    """Return the values of others that a parameter needs, and that they can have.

    It is never active if one of them has none.
    """
    searched = {other.name: other for other in parameters}
    needed: dict[str, list[Any]] = {}
    waiting = [parameter]
    while waiting:
        for name, values in waiting.pop().when.items():
            if name not in searched:
                continue
            if name not in needed:
                waiting.append(searched[name])
                needed[name] = [v for v in values if contains(searched[name].distribution, v)]
            needed[name] = [value for value in needed[name] if value in values]
    return needed
