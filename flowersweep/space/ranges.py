"""The values of a searched parameter, written in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from flowersweep.errors import ConfigError
from flowersweep.space.grammar import to_hydra

When = Mapping[str, Any]  # name of another parameter -> the value, or values, that it must have


@dataclass(frozen=True)
class Float:
    """Numbers from ``low`` to ``high``, or every ``step`` of them.

    >>> Float(1e-4, 1e-1, log=True).values()
    'tag(log, interval(0.0001, 0.1))'

    Attributes:
        log: Each power of ten gets as many samples as the next.
        path: The key that is searched; None: what the parameter is called says it.
        when: The parameter exists only if others have these values.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    path: str | None = None
    when: When | None = None

    def values(self) -> str:
        """Return the values in the grammar of sweeps."""
        return _written(
            lambda: FloatDistribution(float(self.low), float(self.high), self.log, self.step), self
        )


@dataclass(frozen=True)
class Int:
    """Whole numbers from ``low`` to ``high``, both included. See `Float`.

    >>> Int(2, 10, step=2).values()
    'range(2, 11, 2)'
    """

    low: int
    high: int
    log: bool = False
    step: int = 1
    path: str | None = None
    when: When | None = None

    def values(self) -> str:
        """Return the values in the grammar of sweeps."""
        return _written(lambda: IntDistribution(self.low, self.high, self.log, self.step), self)


@dataclass(frozen=True, init=False)
class Choice:
    """One of several values: numbers, texts, switches, or the options of a group. See `Float`.

    >>> Choice("adam", "sgd").values()
    'choice(adam, sgd)'
    """

    options: tuple[Any, ...]
    path: str | None = None
    when: When | None = None

    def __init__(self, *options: Any, path: str | None = None, when: When | None = None) -> None:
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "when", when)

    def values(self) -> str:
        """Return the values in the grammar of sweeps."""
        return _written(lambda: CategoricalDistribution(self.options), self)


def _written(distribution: Callable[[], Any], given: Any) -> str:
    try:
        return to_hydra(distribution())
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{given}: {error}") from None
