"""Convert Hydra's sweep grammar to Optuna's distributions, and back."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Quote,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from flowersweep.errors import ConfigError


def parse_distribution(name: str, values: str) -> BaseDistribution:
    """Parse values in Hydra's sweep grammar.

    The forms are interval(a, b), int(interval(a, b)), tag(log, ...), choice(...) and range(...).

    Raises:
        ConfigError: The values have none of these forms.
    """
    problem = ConfigError(
        f"sweep.space.{name}.values={values!r}: must be interval(low, high), int(interval(low, "
        "high)), tag(log, interval(low, high)), "
        "choice(a, b, ...) or range(start, stop, step)"
    )
    try:
        value = OverridesParser.create().parse_override(f"values={values}").value()
        match value:
            case ChoiceSweep():
                if any(isinstance(choice, list | dict) for choice in value.list):
                    raise problem
                return CategoricalDistribution([*value.list])  # type: ignore[list-item]
            case IntervalSweep():
                low, high, log = value.start, value.end, "log" in value.tags
                if isinstance(low, int) and isinstance(high, int):
                    return IntDistribution(low, high, log=log)
                return FloatDistribution(float(low or 0), float(high or 0), log=log)
            case RangeSweep():
                low, step = value.start or 0, value.step
                last = _last_of_range(low, value.stop or 0, step)
                if all(isinstance(number, int) for number in (low, value.stop, step)):
                    return IntDistribution(int(low), int(last), step=int(step))
                return FloatDistribution(float(low), float(last), step=float(step))
    except (HydraException, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{problem} ({error})") from None
    raise problem


def _last_of_range(start: float, stop: float, step: float) -> Decimal:
    """Return the last value before the stop, in decimals: float sums may go one step too far.

    Raises ValueError if there is none.
    """
    first, end, width = (Decimal(str(number)) for number in (start, stop, step))
    steps = math.ceil((end - first) / width)
    if steps < 1:
        raise ValueError("the range is empty")
    return first + (steps - 1) * width


def to_hydra(distribution: BaseDistribution) -> str:
    """Return a distribution in Hydra's sweep grammar; the inverse of ``parse_distribution``."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return f"choice({', '.join(map(_to_word, choices))})"
        case IntDistribution(low=low, high=high, step=step) if step != 1:
            return f"range({low}, {high + 1}, {step})"  # a range excludes its stop
        case FloatDistribution(low=low, high=high, step=float(step)):
            return f"range({low}, {high + step / 2}, {step})"
        case (
            IntDistribution(low=low, high=high, log=log)
            | FloatDistribution(low=low, high=high, log=log)
        ):
            values = f"interval({low}, {high})"
            values = f"int({values})" if isinstance(distribution, IntDistribution) else values
            return f"tag(log, {values})" if log else values
    raise AssertionError(distribution)


def _to_word(choice: Any) -> str:
    """Return a choice as a Hydra word, quoted if Hydra would not read it as this string."""
    if not isinstance(choice, str):
        return json.dumps(choice)
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", choice)
    if plain and choice.lower() not in ("null", "true", "false", "nan", "inf"):
        return choice
    return QuotedString(choice, Quote.single).with_quotes()


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
