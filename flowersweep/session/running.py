"""Run a sweep under progress bars, as the commands and the functions of Python both do."""

from __future__ import annotations

from collections.abc import Sequence

from flowersweep.config.schema import Config
from flowersweep.session.progress import Progress
from flowersweep.workflows.sweep import SweepResult, run_sweep


def run_with_progress(
    config: Config, overrides: Sequence[str], experiment: str | None, *, shown: bool
) -> SweepResult:
    """Run a sweep, or go on with it; ``experiment`` is that of MLflow if it is not the study's."""
    with Progress(shown) as progress:
        return run_sweep(
            config,
            overrides,
            experiment=experiment,
            features=progress.features,
            watch=progress.trial,
        )
