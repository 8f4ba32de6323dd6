"""Verbs that train or estimate the cost of training; each prints the next command."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from flowersweep.cli.hints import RUN, same_store
from flowersweep.config.keys import key_of
from flowersweep.config.schema import Config
from flowersweep.tracking.masking import masked_text
from flowersweep.workflows.studies import require_sweep


def train(config: Config, overrides: Sequence[str]) -> None:
    """Train one configuration as a sweep of one trial.

    A hash of the settings names the study, so the same training never runs twice.
    """
    from flowersweep.workflows.sweep import single_training

    _search(*single_training(config, overrides))


def search(config: Config, overrides: Sequence[str]) -> None:
    """Run or resume a sweep and print its trials."""
    require_sweep(config)
    _search(config, overrides)


def _search(config: Config, overrides: Sequence[str], experiment: str | None = None) -> None:
    from flowersweep.cli.sweep_result import findings_text, summary, trials_table
    from flowersweep.session.running import run_with_progress
    from flowersweep.workflows.pages import write_page_of_sweep
    from flowersweep.workflows.sweep import run_follower_host

    if run_follower_host(config, overrides):
        print("the study has ended; host 0 has its results")
        return
    outcome = run_with_progress(config, overrides, experiment, shown=config.progress)
    print(trials_table(outcome, config.sweep.objective, config.sweep.objectives[1:]))
    print(summary(outcome))
    if outcome.stopped:
        print(f"{outcome.stopped}. Go on:   {_longer(config, overrides, outcome.forecast)}")
    print("no trial was completed; nothing to promote" if outcome.best is None else outcome.claim)
    if outcome.analysis:
        print(findings_text(outcome.analysis))
    if page := write_page_of_sweep(config, sent=outcome.shipped and config.tracking.enabled):
        print(f"read the report:     {page}")
    if outcome.best is None:
        return
    if not config.tracking.enabled:
        print(
            "nothing of it is in MLflow; the same command without tracking.enabled=false sends "
            "it there"
        )
    elif not outcome.shipped:
        print(
            f"not all of it is in MLflow yet; later:   {RUN} sync "
            f"study={config.study}{same_store(config)}"
        )
    else:
        print(f"compare in MLflow:   {RUN} ui{same_store(config)}")
        print(f"promote the best:    {RUN} promote study={config.study}{same_store(config)}")


def _longer(config: Config, overrides: Sequence[str], forecast: float | None) -> str:
    """Return the command that resumes a study whose time budget is used up."""
    minutes = max(math.ceil(2 * (config.sweep.budget.minutes or 0)), math.ceil(forecast or 1))
    words = [word for word in overrides if key_of(word) != "sweep.budget.minutes"]
    return f"{RUN} {shlex.join(map(masked_text, words))} sweep.budget.minutes={minutes}"


def check(config: Config, overrides: Sequence[str]) -> int:
    """Print whether a training fits a slice of TPU chips, and its best speed there.

    Returns:
        Exit code: 0 if it fits, else 1.
    """
    from flowersweep.workflows.tpu_check import run_tpu_check as run

    return 0 if run(config, partial(print, flush=True)) else 1


def plan(config: Config, overrides: Sequence[str]) -> int:
    """Print what a sweep will do and cost, and whether it fits the TPU slice, if one is named.

    Returns:
        Exit code: 0 if it is within budget and fits, else 1.
    """
    from flowersweep.data.dataset import open_dataset
    from flowersweep.workflows.planning.plan import plan as run

    within = run(config, overrides, partial(print, flush=True)).within_budget
    if config.topology is None:
        return 0 if within else 1
    images = open_dataset(
        config.data, Path(config.dir) / "cache", trusted=tuple(config.trusted_modules)
    )
    fits = check(replace(config, data=replace(config.data, dir=images.dir)), overrides) == 0
    return 0 if within and fits else 1
