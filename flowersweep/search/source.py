"""Where the trials of a study come from: a space to search, or fixed points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution

from flowersweep.config.paths import Settings
from flowersweep.config.schema import Config
from flowersweep.space.constraints import Constraint
from flowersweep.space.space import Parameter, Params


class TrialSource(Protocol):
    """What a study asks for its trials. `Space` is one."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """The searched parameters; empty for fixed points."""

    @property
    def constraints(self) -> Sequence[Constraint]:
        """The constraints that every point must meet."""

    def suggest(self, trial: optuna.Trial) -> Params:
        """Return the point of a new trial."""

    def distributions(self, params: Params) -> dict[str, BaseDistribution]:
        """Return the distributions of the parameters in ``params``."""

    def config(self, params: Params) -> Config:
        """Return the configuration of a trial."""

    def settings(self, params: Params) -> Settings:
        """Return the settings in which a trial differs from the study, by dotted path."""

    def choices(self, path: str) -> list[Params]:
        """Return one point for each option of a searched group; one point for any other path."""

    def describe(self) -> dict[str, Any]:
        """Return plain data that is equal for equal sources."""
