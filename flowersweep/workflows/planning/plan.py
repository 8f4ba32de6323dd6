"""What a sweep is going to do and cost, before it does anything: its space, samples of it, its
compile groups, minutes and bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from flowersweep.config.compose import parse
from flowersweep.config.schema import Config, Experiment
from flowersweep.runtime import start
from flowersweep.search import optuna_study
from flowersweep.search.samplers.keras_tuner.oracle import require
from flowersweep.search.samplers.rejection import RejectionSampler
from flowersweep.space.designs import feasible_share
from flowersweep.space.space import Params, Space, build_space, require_step
from flowersweep.study.records import read_study
from flowersweep.training.context import TrainingContext
from flowersweep.util.text import bytes_text, duration, number
from flowersweep.workflows.planning.forecast import Forecast, make_forecast, span, trials_at_a_time
from flowersweep.workflows.planning.profiling import ProfilingContext, TrialProfile, profile_trial

SAMPLES, COMBINATIONS = 5, 128

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a sweep has left to do, and what that costs."""

    trials: int  # that are left
    forecast: Forecast
    refusal: str | None  # what of the budget is not enough

    @property
    def within_budget(self) -> bool:
        return self.refusal is None


def plan(config: Config, overrides: Sequence[str], say: Say) -> Plan:
    """Say what a sweep will do and cost.

    It journals nothing, and trains only to time it.

    Raises ConfigError or DataError as the sweep itself would.
    """
    space, cache = build_space(config, overrides, parse(overrides)), Path(config.dir) / "cache"
    require(config, space, parse(overrides))
    space.require_possible()
    require_step(config)
    context = ProfilingContext(
        start(cache / "compiled"), cache, lambda what, done, total: None, config.trusted_modules
    )
    context.batch(config)
    context.classifier(config)
    study = read_study(Path(config.dir) / "studies" / str(config.study))
    ended = sum(trial.ended is not None for trial in study.trials)
    left = max(0, config.sweep.n_trials - ended)
    _describe(config, space, say)
    groups = _groups(config, space, context)
    say(
        f"\ncompile groups: {len(groups)}, of {sum(groups.values())} sampled trials"
        + "".join(f"\n  {name}" for name in groups if name)
    )
    found, missing = profile_trial(config, context), context.missing(config)
    forecast = make_forecast(config, found, left, len(groups), missing)
    _costs(config, found, missing, say)
    done = f"{ended} of them ended, in {duration(study.seconds)}; " if ended else ""
    say(
        f"\n{config.sweep.n_trials} trials: {done}{span(forecast.least, forecast.most)} to "
        f"go{_saving(config, forecast)}"
    )
    features = bytes_text(4 * sum(context.classifier(config).widths) * missing)
    least, most = bytes_text(forecast.least_bytes), bytes_text(forecast.most_bytes)
    say(f"disk: {most} for the study, {least} at the least; {features} for features to come")
    refusal = forecast.refusal(config, study.seconds / 60)
    say(refusal or "nothing was trained but to time it; the same words with `search` run it")
    return Plan(left, forecast, refusal)


def _describe(config: Config, space: Space, say: Say) -> None:
    say(
        f"study {config.study}: {config.sweep.n_trials} trials, {config.sweep.objective}, "
        f"{len(space.parameters)} parameters"
    )
    for p in space.parameters:
        when = " and ".join(
            f"{name} is {' or '.join(map(str, values))}" for name, values in p.when.items()
        )
        say(f"  {p.name}: {p.path} = {_range(p.distribution)}" + (f", if {when}" if when else ""))
    for name, value in space.fixed.items():
        say(f"  {name}: fixed, {value}")
    for each in space.constraints:
        say(f"  wanted: {each.text}")
    if space.constraints:
        say(f"  {feasible_share(space):.2g} of the space meets that")
    if space.parameters:
        before = (
            ", had it no trials of other studies to learn from" if config.sweep.import_from else ""
        )
        say(f"\n{SAMPLES} samples, as the sampler would begin{before}:")
    for position, params in enumerate(_samples(config, space)):
        say(
            f"  {position}: "
            + ", ".join(f"{path}={number(value)}" for path, value in space.settings(params).items())
        )


def _samples(config: Config, space: Space) -> list[Params]:
    study, suggestions = optuna_study.rebuild_study([], space, config), []
    for position in range(min(SAMPLES, config.sweep.n_trials) if space.parameters else 0):
        suggestions.append(optuna_study.ask_trial(study, position, space=space, config=config)[1])
    return suggestions


def _groups(config: Experiment, space: Space, context: TrainingContext) -> Counter[str]:
    """Count sampled trials by their compile groups, every combination of choices among them, named
    by the choices that make them differ.
    """
    choices = {
        p.name: p.distribution.choices
        for p in space.parameters
        if isinstance(p.distribution, CategoricalDistribution)
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.seed))
    for values in islice(product(*choices.values()), COMBINATIONS):
        study.enqueue_trial(dict(zip(choices, values, strict=True)))
    drawn = (
        max(min(config.sweep.n_trials, COMBINATIONS), len(study.trials)) if space.parameters else 1
    )
    if space.constraints:  # a combination may have been enqueued with numbers that it must not have
        study.sampler = RejectionSampler(
            lambda attempt: optuna.samplers.RandomSampler(seed=config.seed + attempt),
            space,
            config.seed,
        )
        drawn += COMBINATIONS
    members: dict[tuple[str, ...], list[Params]] = {}
    for _ in range(drawn):
        params = space.suggest(study.ask()) if space.parameters else {}
        if space.feasible(params):
            members.setdefault(context.compile_group_keys(space.config(params)), []).append(params)
    if len(members) == 1:
        return Counter({"": sum(map(len, members.values()))})
    return Counter(
        {
            f"{n}: {_name(params, choices)}": len(params)
            for n, params in enumerate(members.values(), 1)
        }
    )


def _name(members: list[Params], choices: Iterable[str]) -> str:
    same = {name: {params.get(name) for params in members} for name in choices}
    return ", ".join(
        f"{name}={next(iter(values))}" for name, values in same.items() if len(values) == 1
    )


def _costs(config: Config, profile: TrialProfile, missing: int, say: Say) -> None:
    if missing:
        say(f"\nfeatures of {missing} views of images: {duration(profile.image * missing)}, once")
    head = f", {profile.head:.3g} s for one of the frozen stage before it" if profile.head else ""
    if config.sweep.workers > trials_at_a_time(config):
        say(
            f"\nsweep.workers={config.sweep.workers} share the cores of this machine: the "
            "minutes are those of one trial after the other"
        )
    elif config.sweep.workers > 1:
        say(
            f"\nsweep.workers={config.sweep.workers}: the minutes are right if each is as "
            "fast as this machine, and none slows another"
        )
    main = f"{profile.main:.3g} s an epoch"
    say(
        f"timed here: {main}{head}, {profile.finish:.3g} s at a trial's end; "
        f"{profile.compiling:.3g} s to compile or load"
    )


def _saving(config: Experiment, forecast: Forecast) -> str:
    return (
        ""
        if forecast.most == forecast.least
        else f" (the pruner saves at most {duration(60 * (forecast.most - forecast.least))})"
    )


def _range(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return " | ".join(map(str, distribution.choices))
    low, high, step = (getattr(distribution, name) for name in ("low", "high", "step"))
    scale = (
        ", logarithmic"
        if getattr(distribution, "log", False)
        else f", in steps of {step:g}"
        if step and step != 1
        else ""
    )
    return f"{low:g} to {high:g}{scale}{', whole' if isinstance(low, int) else ''}"
