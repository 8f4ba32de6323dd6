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
    Sweep,
)
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from flowersweep.config.words import require_readable, shorten
from flowersweep.errors import ConfigError


def parse_distribution(name: str, values: str) -> BaseDistribution:
    """Parse values in Hydra's sweep grammar.

    The forms are interval(a, b), int(interval(a, b)), tag(log, ...), choice(...) and range(...).

    Raises:
        ConfigError: The values have none of these forms.
    """
    require_readable(values, f"sweep.space.{name}.values=")
    problem = ConfigError(
        f"sweep.space.{name}.values={shorten(values)!r}: must be interval(low, high), "
        "int(interval(low, high)), tag(log, interval(low, high)), choice(a, b, ...) or "
        "range(start, stop, step)"
    )
    try:
        value = OverridesParser.create().parse_override(f"values={values}").value()
        if isinstance(value, Sweep):
            _require_meant(value)
        match value:
            case ChoiceSweep():
                return CategoricalDistribution([*map(_choice, value.list)])
            case IntervalSweep():
                low, high, log = value.start, value.end, bool(value.tags)
                if isinstance(low, int) and isinstance(high, int):
                    return IntDistribution(low, high, log=log)
                return FloatDistribution(_finite(low), _finite(high), log=log)
            case RangeSweep():
                low, step = value.start or 0, value.step
                last = _last_of_range(low, value.stop or 0, step)
                if all(isinstance(number, int) for number in (low, value.stop, step)):
                    return IntDistribution(int(low), int(last), step=int(step))
                return FloatDistribution(float(low), float(last), step=float(step))
    except (HydraException, ValueError, ArithmeticError) as error:
        raise ConfigError(f"{problem} ({error})") from None
    raise problem


def _require_meant(sweep: Sweep) -> None:
    """Raise ValueError for a tag that would be passed over."""
    interval = isinstance(sweep, IntervalSweep)
    if unknown := {*sweep.tags} - ({"log"} if interval else set()):
        raise ValueError(
            f"the tag {min(map(str, unknown))} means nothing here; there is tag(log, interval(...))"
        )


def _choice(choice: Any) -> Any:
    """Return a choice as plain data. Raises ValueError if it cannot be one."""
    plain = choice.text if isinstance(choice, QuotedString) else choice
    if isinstance(plain, list | dict):
        raise ValueError(f"{plain!r} cannot be a choice")
    return _finite(plain) if isinstance(plain, float) else plain


def _finite(number: float | None) -> float:
    if number is None or not math.isfinite(number):
        raise ValueError(f"{number} is no end of a range and no choice")
    return float(number)


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


def extremes(distribution: BaseDistribution) -> list[Any]:
    """Return every choice, or both ends of a range."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return [*choices]
        case IntDistribution(low=low, high=high) | FloatDistribution(low=low, high=high):
            return [low, high]
    raise AssertionError(distribution)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether trials can have this value; a number without steps is never met."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return value in choices
        case FloatDistribution(step=None):
            return distribution.single() and value == distribution.low
        case (
            IntDistribution(low=low, high=high, step=step)
            | FloatDistribution(low=low, high=high, step=float(step))
        ):
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            steps = (value - low) / step
            return low <= value <= high and math.isclose(steps, round(steps), abs_tol=1e-9)
    raise AssertionError(distribution)


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
    raise AssertionError(distribution)
