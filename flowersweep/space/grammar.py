"""The search space: from Hydra's sweep grammar to Optuna's distributions, with conditions, less what the command line fixed."""

from __future__ import annotations

import json
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from flowersweep.errors import ConfigError


def parse_distribution(name: str, values: str) -> BaseDistribution:
    """Parse values in Hydra's sweep grammar: interval(a, b), int(interval(a, b)), tag(log, ...), choice(...), range(...).

    Raises ConfigError saying which parameter and what may stand there.
    """
    wrong = ConfigError(
        f"sweep.space.{name}.values={values!r}: must be interval(low, high), int(interval(low, high)), tag(log, interval(low, high)), "
        "choice(a, b, ...) or range(start, stop, step)"
    )
    try:
        value = OverridesParser.create().parse_override(f"values={values}").value()
        match value:
            case ChoiceSweep():
                if any(isinstance(choice, list | dict) for choice in value.list):
                    raise wrong
                return CategoricalDistribution([*value.list])  # type: ignore[list-item]
            case IntervalSweep():
                low, high, log = value.start, value.end, "log" in value.tags
                if isinstance(low, int) and isinstance(high, int):
                    return IntDistribution(low, high, log=log)
                return FloatDistribution(float(low or 0), float(high or 0), log=log)
            case RangeSweep():
                steps = [*value.range()]  # without the stop, as Hydra has it
                if all(isinstance(step, int) for step in steps):
                    return IntDistribution(int(steps[0]), int(steps[-1]), step=int(value.step))
                return FloatDistribution(float(steps[0]), float(steps[-1]), step=float(value.step))
    except (HydraException, ValueError, IndexError) as error:
        raise ConfigError(f"{wrong} ({error})") from None
    raise wrong


def to_hydra(distribution: BaseDistribution) -> str:
    """Return values in Hydra's sweep grammar, as a sweep has them."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return f"choice({', '.join(each if isinstance(each, str) else json.dumps(each) for each in choices)})"
        case IntDistribution(low=low, high=high, step=step) if step != 1:
            return f"range({low}, {high + step}, {step})"  # without the stop
        case FloatDistribution(low=low, high=high, step=float(step)):
            return f"range({low}, {high + step}, {step})"
        case IntDistribution(low=low, high=high, log=log) | FloatDistribution(low=low, high=high, log=log):
            return f"tag(log, interval({low}, {high}))" if log else f"interval({low}, {high})"
    raise AssertionError(distribution)


def _extremes(distribution: BaseDistribution) -> list[Any]:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return [*choices]
        case IntDistribution(low=low, high=high) | FloatDistribution(low=low, high=high):
            return [low, high]
    raise AssertionError(distribution)


def _suggested(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
    raise AssertionError(distribution)
