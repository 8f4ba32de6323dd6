"""Whether there is time to fine-tune a network: its steps are timed, on whatever device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowersweep.config.schema import Config
from flowersweep.runtime import start
from flowersweep.workflows.planning.forecast import make_forecast
from flowersweep.workflows.planning.profiling import ProfilingContext, load_profile, profile_trial


@dataclass(frozen=True)
class TuningCost:
    """What it costs to fine-tune the trials of a sweep and to promote them."""

    epoch: float  # seconds of an epoch of all layers
    minutes: float  # of the trials, of as many trainings a seed of the promotion, and of the refit


def tuning_cost(config: Config) -> TuningCost:
    """Time a few steps of a fine-tuning, or recall what was timed, and say what a sweep costs.

    An ensemble with a soup may hold every trial of the sweep, so all are counted for the promotion.

    Raises:
        ConfigError, TrialFailed: This machine cannot fine-tune it.
    """
    cache = Path(config.dir) / "cache"
    context = ProfilingContext(
        start(cache / "compiled"), cache, lambda *_: None, config.trusted_modules
    )
    # what was timed once counts, so that a command that goes on decides as before
    profile = load_profile(config, context) or profile_trial(config, context)
    forecast = make_forecast(config, profile, config.sweep.n_trials, 1, context.missing(config))
    rounds = config.promotion.seeds + (2 if config.promotion.refit else 1)
    return TuningCost(profile.main, rounds * forecast.most)
