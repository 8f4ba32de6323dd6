"""The search space of a sweep: parameters with conditions, and the configuration they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from hydra.core.override_parser.types import Override
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json

from flowersweep.config.compose import compose_unchecked
from flowersweep.config.paths import Settings, differences_from, flatten, with_settings
from flowersweep.config.schema import Config
from flowersweep.config.targets import resolve
from flowersweep.config.validation import validate
from flowersweep.config.words import settings_of
from flowersweep.errors import ConfigError
from flowersweep.space.constraints import Constraint, constraint
from flowersweep.space.grammar import extremes, suggest
from flowersweep.space.parameters import Base, read_parameters, requirements
from flowersweep.space.parameters import Parameter as Parameter
from flowersweep.space.parameters import Params as Params


@dataclass(frozen=True)
class Space:
    """The parameters, in the order of suggestion, and the configuration that they change."""

    parameters: tuple[Parameter, ...]
    # name -> value that is not searched: set by the command line, or named in a condition
    fixed: Params
    overrides: tuple[str, ...]  # the command line
    groups: frozenset[str]  # paths of config groups; another option needs a new composition
    constraints: tuple[Constraint, ...] = ()  # that every point must meet

    @cached_property
    def base(self) -> Settings:
        """The configuration that the trials change, by dotted path."""
        return dict(flatten(compose_unchecked(self.overrides)))

    @cached_property
    def _configs(self) -> dict[str, Config]:
        return {}

    def suggest(self, trial: optuna.Trial) -> Params:
        """Ask the trial for a value of each active parameter."""
        return self.fill_active(
            lambda parameter: suggest(trial, parameter.name, parameter.distribution)
        )

    def fill_active(self, value: Callable[[Parameter], Any]) -> Params:
        """Return the point of ``value(parameter)`` for active parameters; None leaves one out."""
        params: Params = {}
        for parameter in self.parameters:
            if (
                parameter.active({**self.fixed, **params})
                and (setting := value(parameter)) is not None
            ):
                params[parameter.name] = setting
        return params

    def feasible(self, params: Params) -> bool:
        """Return whether a point meets every constraint."""
        return all(constraint.holds(params) for constraint in self.constraints)

    def distributions(self, params: Params) -> dict[str, BaseDistribution]:
        """Return the distributions of the parameters in ``params``."""
        return {p.name: p.distribution for p in self.parameters if p.name in params}

    def config(self, params: Params) -> Config:
        """Return the validated configuration of a trial. Raises ConfigError."""
        if (cached := self._configs.get(key := repr(params))) is not None:
            return cached
        paths = {p.path: params[p.name] for p in self.parameters if p.name in params}
        composition = self._composition({p: v for p, v in paths.items() if p in self.groups})
        config = validate(
            with_settings(composition, {p: v for p, v in paths.items() if p not in self.groups})
        )
        self._configs.clear()  # one entry is enough: a trial asks repeatedly for its own
        self._configs[key] = config
        return config

    def require_possible(self) -> None:
        """Check every option of every group and both ends of every range.

        Raises:
            ConfigError: Lists every value without a valid configuration.
        """
        problems = []
        for parameter in self.parameters:
            needed = requirements(parameter, self.parameters)
            if not all(needed.values()):
                problems.append(
                    f"sweep.space.{parameter.name} is never active: "
                    f"{' and '.join(name for name, values in needed.items() if not values)} is "
                    f"never what its `when` asks for. Without it: ~sweep.space.{parameter.name}"
                )
                continue
            conditions = {name: values[0] for name, values in needed.items()}
            for value in extremes(parameter.distribution):
                try:
                    config = self.config({**conditions, parameter.name: value})
                    if parameter.path in self.groups or parameter.path.endswith("._target_"):
                        require_step(config)
                except ConfigError as error:
                    problems.append(f"sweep.space.{parameter.name}: {error}")
        if problems:
            raise ConfigError("; ".join(dict.fromkeys(problems)))

    def _composition(self, chosen: Mapping[str, Any]) -> Config:
        """Compose the configuration with these options of groups, by path."""
        return compose_unchecked(
            self.overrides
            + tuple(
                f"{path}={value}"
                for path, value in chosen.items()
                if self.base[f"{path}.name"] != value
            )
        )

    def settings(self, params: Params) -> Settings:
        """Return the settings in which a trial differs from the base, by dotted path."""
        return differences_from(self.base, self.config(params))

    def choices(self, path: str) -> list[Params]:
        """Return a point for each option of a searched group; else only the empty point."""
        searched = [
            p
            for p in self.parameters
            if p.path == path and isinstance(p.distribution, CategoricalDistribution)
        ]
        return [
            {p.name: choice}
            for p in searched
            for choice in p.distribution.choices  # type: ignore[attr-defined]
        ] or [{}]

    def describe(self) -> dict[str, Any]:
        """Return plain data that is equal for equal spaces."""
        return {
            p.name: {"path": p.path, "values": distribution_to_json(p.distribution), "when": p.when}
            for p in self.parameters
        }


def build_space(config: Config, overrides: Sequence[str], given: Sequence[Override]) -> Space:
    """Build the space of a composed sweep, without the parameters that the command line fixes.

    Args:
        overrides: The words of the command line.
        given: The same words, parsed.

    Raises:
        ConfigError: An entry names an unknown key or condition, or its values do not parse.
    """
    leaves = dict(flatten(config))
    groups = frozenset(path.rsplit(".", 1)[0] for path in leaves if path.endswith(".name"))
    words = settings_of(given)
    parameters, fixed = read_parameters(config, Base(leaves, groups, words))
    if config.sweep.space and not parameters:
        raise ConfigError(
            "the command line fixes every parameter of the sweep; to train once: python -m "
            "flowersweep train ..."
            if any(str(entry["path"]) in words for entry in config.sweep.space.values())
            else "sweep.space: no parameter is active with this configuration; see each `when`"
        )
    return Space(
        tuple(parameters),
        fixed,
        tuple(overrides),
        groups,
        _constraints(config, leaves, words, parameters),
    )


def _constraints(
    config: Config, leaves: Settings, words: Mapping[str, Any], possible: Sequence[Parameter]
) -> tuple[Constraint, ...]:
    names: dict[str, str] = {}
    settings = {
        **leaves,
        **{
            path.removesuffix(".name"): value
            for path, value in leaves.items()
            if path.endswith(".name")
        },
    }
    for name, entry in config.sweep.space.items():
        path = str(entry["path"])
        if path in words:
            settings[name] = settings[path]
        else:
            # parameters of one path, on different branches, have their own names alone
            shared = sum(str(other["path"]) == path for other in config.sweep.space.values()) > 1
            names |= {name: name} if shared else {name: name, path: name}
            if shared:
                settings.pop(path, None)
    searched = [
        p.path
        for p in possible
        if isinstance(p.distribution, CategoricalDistribution) and p.path not in leaves
    ]
    return tuple(
        constraint(str(text), names, settings, searched) for text in config.sweep.constraints
    )


def require_step(config: Config) -> None:
    """Raise ConfigError if a callable of the training step is missing or rejects its arguments."""
    for slot in ("loss", "schedule", "augment", "optimizer"):
        spec = getattr(config, slot)
        if spec.get("_target_"):
            resolve(spec, slot, config.trusted_modules)
