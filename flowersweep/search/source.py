"""Where the trials of a study come from: a space to search, or points that were chosen before."""

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
        """The searched parameters; none where points were chosen before."""

    @property
    def constraints(self) -> Sequence[Constraint]:
        """What every point must meet."""

    def suggest(self, trial: optuna.Trial) -> Params:
        """Return the point of a new trial."""

    def distributions(self, params: Params) -> dict[str, BaseDistribution]:
        """Return the distributions of the parameters that a trial had."""

    def config(self, params: Params) -> Config:
        """Return the configuration of a trial."""

    def settings(self, params: Params) -> Settings:
        """Return where the configuration of a trial differs from the study's, by dotted path."""

    def choices(self, path: str) -> list[Params]:
        """Return one point for each option of a group that is searched; else one point."""

    def describe(self) -> dict[str, Any]:
        """Return it as plain data, to tell whether two are the same."""
