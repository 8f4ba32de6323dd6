"""How long a sweep will take and how much it will keep, from what one trial was timed at, and
whether its budget is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowersweep.config.schema import Config
from flowersweep.config.targets import arguments
from flowersweep.config.validation import never_prunes, uses_workers
from flowersweep.search.samplers.keras_tuner.hyperband import first_bracket
from flowersweep.search.samplers.keras_tuner.oracle import is_hyperband, make_oracle
from flowersweep.search.trial_store import JOURNAL
from flowersweep.space.space import Space
from flowersweep.training.context import TrainingContext
from flowersweep.util.text import duration
from flowersweep.workflows.planning.profiling import TrialProfile, load_profile

LINE, EPOCH_LINE = 1500, 250  # bytes that the journal holds of a trial, and of each of its epochs


@dataclass(frozen=True)
class Forecast:
    """What the trials that are left will cost.

    From ``least``, if the pruner ends all that it can, to ``most``, if it ends none.
    """

    least: float  # minutes
    most: float
    least_bytes: int  # without which the study cannot end
    most_bytes: int

    def refusal(self, config: Config, used: float) -> str | None:
        """Say what of the budget is not enough, after so many minutes; None if all of it may be."""
        minutes, held = config.sweep.budget.minutes, config.sweep.budget.bytes
        if minutes is not None and used + self.least > minutes:
            short = (
                f"sweep.budget.minutes={minutes:g}, and the forecast is "
                f"{span(used + self.least, used + self.most)}"
            )
        elif held is not None and self.least_bytes > held:
            short = (
                f"sweep.budget.bytes={held}, and the study needs {self.least_bytes} at the least"
            )
        else:
            return None
        return f"over budget: {short}. Raise it, or lower sweep.n_trials or train.epochs"


def make_forecast(
    config: Config, profile: TrialProfile, trials: int, groups: int, missing: int
) -> Forecast:
    """Return what so many trials cost that are like the one that was timed."""
    train, last = config.train, config.train.all_epochs
    head = last - train.epochs
    whole = head * profile.head + train.epochs * profile.main + profile.finish
    full, first = _first_decision(config)
    short = min(first, head) * profile.head + max(0, first - head) * profile.main
    certain = profile.compiling * groups + profile.image * missing
    at_a_time = max(1, min(trials_at_a_time(config), trials))
    most = certain + -(-trials // at_a_time) * whole
    least = (
        certain
        + (min(trials, full) * whole + max(0, trials - full) * min(short, whole)) / at_a_time
    )
    # while one is written, the one before is there
    running = 2 * (profile.weights + profile.checkpoint) + JOURNAL
    journal = config.sweep.n_trials * (LINE + EPOCH_LINE * last)
    saved = min(config.sweep.n_trials, config.sweep.save_predictions_of_best)
    weights = min(saved, config.sweep.save_weights_of_best)
    return Forecast(
        least / 60,
        most / 60,
        running + journal + 2 * profile.logits,
        running + journal + (saved + 1) * profile.logits + (weights - 1) * profile.weights,
    )


def trials_at_a_time(config: Config) -> int:
    """Return how many trials at a time are to take as long as one alone would.

    Workers of other machines, or with devices of their own, are taken not to slow each other. Those
    of this machine share its cores: one trial alone uses all of them, so that several take as long
    as one after the other, or longer.
    """
    return (
        config.sweep.workers
        if uses_workers(config) and config.executor["_target_"] != "local"
        else 1
    )


def known_refusal(config: Config, context: TrainingContext) -> str | None:
    """Say why a sweep that has not started cannot end within its budget, if a plan has timed its
    trials; None if nothing says so.
    """
    profile = (
        load_profile(config, context)
        if config.sweep.budget.minutes is not None or config.sweep.budget.bytes is not None
        else None
    )
    return (
        make_forecast(config, profile, config.sweep.n_trials, 0, 0).refusal(config, 0.0)
        if profile
        else None
    )


def _first_decision(config: Config) -> tuple[int, int]:
    """Return how many trials run to their end whatever they give, and after how many epochs the
    others may first be ended.
    """
    last = config.train.all_epochs
    if is_hyperband(config):
        return 0, first_bracket(make_oracle(config, Space((), {}, (), frozenset()), 1), config)[0][
            1
        ]
    if never_prunes(config):
        return config.sweep.n_trials, last
    given = {
        name: value for name, value in arguments(config.pruner).items() if isinstance(value, int)
    }
    wait = max(given.get("min_resource", 1), given.get("n_warmup_steps", 0), 1)
    segment = config.sweep.report_interval_epochs
    return max(1, given.get("n_startup_trials", 1)), min(last, -(-wait // segment) * segment)


def span(least: float, most: float) -> str:
    """Write a range of minutes."""
    ends = dict.fromkeys(duration(60 * minutes) for minutes in (least, most))
    return " to ".join(ends)
