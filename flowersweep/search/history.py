"""What a journal says of each trial, and the Optuna study that is rebuilt from it."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from flowersweep.config import Config
from flowersweep.errors import ConfigError
from flowersweep.evaluation.scores import macro_f1
from flowersweep.evaluation.statistics import macro_f1_interval
from flowersweep.journal import Event
from flowersweep.search.feasible import Feasible
from flowersweep.search.objectives import direction, objectives, score, values
from flowersweep.search.oracles import OracleSampler, is_hyperband
from flowersweep.search.rounds import KEY, Noted, RoundPruner
from flowersweep.search.space import Params, Space
from flowersweep.targets import arguments, resolve

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
ACCEPTED = ("space", "settings", "objective", "direction", "config", "overrides")  # of what a study is, may be another later


@dataclass
class Record:
    """One trial as the journal has it."""

    number: int
    params: dict[str, Any]
    identity: str | None = None  # what it trains, apart from names and what does not count
    repeats: int | None = None  # the first trial that trained the same
    seed: int | None = None  # of its own, if it trains that again; a trial that repeats and has none takes the earlier result
    noted: Noted = field(default_factory=dict)  # by an oracle that has rounds
    reports: dict[int, float] = field(default_factory=dict)  # epochs done -> objective
    times: list[float] = field(default_factory=list)  # when it was asked for, and when each epoch ended: seconds since 1970
    metrics: dict[str, float] = field(default_factory=dict)  # the newest there are
    tell: Event | None = None
    notes: dict[str, Any] | None = None  # what samplers and pruners had noted on it, if others ran beside it
    pruned: bool = False  # whether the pruner has ended it, and it is to be told
    at: tuple[int, int] = (0, 0)  # while it runs here: epochs done, and steps of the next
    outside: bool = False  # it is none of the trials that the study means since other settings were accepted

    @property
    def state(self) -> str:
        ended = str(self.tell["state"]) if self.tell else "running"
        return "outside" if self.outside and ended in ("complete", "pruned") else ended

    @property
    def value(self) -> float | None:
        return self.tell["value"] if self.tell else None

    @property
    def continues(self) -> int | None:
        """The trial whose training this one takes further."""
        return self.noted.get("continues")

    @property
    def reused(self) -> int | None:
        """The trial whose result this one takes."""
        return self.repeats if self.seed is None else None


def meant(events: Sequence[Event]) -> Event:
    """Return what a study is: its first event, with what was accepted since."""
    accepted: Event = next((event for event in reversed(events) if event["event"] == "accept"), {})
    return {**events[0], **{key: accepted[key] for key in ACCEPTED if key in accepted}}


def records(events: Sequence[Event]) -> list[Record]:
    """Fold the events of a journal into its trials, by number; values are those of the newest objective that was accepted, if any was."""
    found: list[Record] = []
    objective = meant(events)["objective"] if any(event["event"] == "accept" for event in events) else None
    for event in events:
        match event["event"]:
            case "ask":
                found.append(begun(event, found))
            case "report":
                newest = event["epochs"][-1]
                found[event["trial"]].reports[newest["epoch"]] = newest.get("metrics", {}).get(objective, event["value"])
                found[event["trial"]].times += [epoch["time"] for epoch in event["epochs"] if "time" in epoch]
                found[event["trial"]].metrics = newest.get("metrics", {})
                found[event["trial"]].notes = event.get("attributes", found[event["trial"]].notes)
                found[event["trial"]].pruned = event.get("pruned", False)
            case "tell":
                if (first := found[event["trial"]].reused) is not None:
                    found[event["trial"]].reports = dict(found[first].reports)
                found[event["trial"]].tell = event if objective is None else _reread(event, objective, found[event["trial"]])
                found[event["trial"]].metrics = event.get("metrics") or found[event["trial"]].metrics
            case "accept":
                for record in found:
                    record.outside, record.params = record.number in event["outside"], event["params"][record.number]
                    if event["anew"] and record.tell:
                        record.tell = {**record.tell, "attributes": {}}
    return found


def _reread(tell: Event, objective: str, record: Record) -> Event:
    """Return how a trial ended, with its value of another objective than it may have been told with."""
    if tell["value"] is None:
        return tell
    last = [*record.reports.values()][-1:] or [tell["value"]]
    return {**tell, "value": tell["metrics"].get(objective, last[0])}


def deaths(events: Iterable[Event]) -> Counter[int]:
    """Count the workers that were lost with each trial since it last reported: then it had gone on, whatever took them."""
    found = Counter[int]()
    for event in events:
        if event["event"] == "lost":
            found[event["trial"]] += 1
        elif event["event"] == "report":
            found.pop(event["trial"], None)
    return found


def begun(ask: Event, trials: Sequence[Record] = ()) -> Record:
    """Return the trial that an event of asking begins; one that takes another of ``trials`` further has its reports already."""
    noted = ask.get("noted", {})
    reports = dict(trials[noted["continues"]].reports) if "continues" in noted else {}
    meaning = (ask.get("identity"), ask.get("repeats"), ask.get("seed"))
    times, notes = [ask.get("time", 0.0)], ask.get("attributes")
    return Record(ask["trial"], ask["params"], *meaning, noted=noted, reports=reports, times=times, notes=notes)


def rebuilt(trials: Sequence[Record], space: Space, config: Config) -> optuna.Study:
    """Return an Optuna study in memory that holds every trial that has ended, and those in flight that others ran beside.

    One that was in flight alone is asked for again: then the sampler and the pruner see what they saw.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Hyperband takes the bracket of a trial from this name and the trial's number: it must not change with what a user calls a study
    names = objectives(config)
    study = optuna.create_study(study_name=str(config.seed), directions=[*map(direction, names)], pruner=pruner(config))
    told = [
        _frozen(t, t.tell, space, names) if t.tell else _open(t, space)
        for t in trials
        if t.tell or t.notes is not None or t is not trials[-1]
    ]
    study.add_trials(told)
    if isinstance(study.pruner, optuna.pruners.HyperbandPruner):
        # it makes its brackets when it is first asked, and samplers may see them: asked here, a study that goes on has them as soon as any
        study.pruner.prune(study, optuna.trial.create_trial(value=0.0))
    return study


def pruner(config: Config) -> optuna.pruners.BasePruner:
    """Return the pruner; one that asks for ``max_resource`` and is given none gets the epochs of a trial."""
    if is_hyperband(config):
        return RoundPruner()
    given = arguments(config.pruner)
    if "max_resource" in given and given["max_resource"] is None:
        given["max_resource"] = config.train.all_epochs
    made: optuna.pruners.BasePruner = resolve(config.pruner, config.trusted_modules)(**given)
    if config.sweep.objectives and not isinstance(made, optuna.pruners.NopPruner):
        raise ConfigError(f"pruner={config.pruner['name']} stops a trial by one objective, and sweep.objectives has several: pruner=none")
    return made


def _frozen(trial: Record, tell: Event, space: Space, names: Sequence[str]) -> FrozenTrial:
    if trial.outside:  # it keeps its number, and nobody learns from it
        return optuna.trial.create_trial(state=TrialState.FAIL)
    value = tell["value"]
    found = values(value, tell["metrics"], names) if len(names) > 1 and value is not None else [value]
    return optuna.trial.create_trial(
        state=STATES[trial.state],
        values=None if value is None else found,  # a pruned trial counts with its last report, as Optuna itself has it
        params=trial.params,
        distributions=space.distributions(trial.params),
        intermediate_values=trial.reports,
        system_attrs=tell["attributes"],
    )


def _open(trial: Record, space: Space) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=space.distributions(trial.params),
        intermediate_values={} if trial.notes is None else trial.reports,
        system_attrs=trial.notes or ({KEY: trial.noted} if trial.noted else {}),
    )


def running(study: optuna.Study) -> dict[int, optuna.Trial]:
    """Return the trials of a rebuilt study that are in flight, by number."""
    open_ = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    return {trial.number: optuna.Trial(study, trial._trial_id) for trial in open_}


def attributes(study: optuna.Study, number: int) -> dict[str, Any]:
    """Return what samplers and pruners noted on a trial (successive halving notes its rungs), to be rebuilt with it."""
    noted = study.get_trials(deepcopy=False)[number].system_attrs
    return {name: value for name, value in noted.items() if name != "fixed_params"}


def noted(study: optuna.Study, number: int) -> Noted:
    """Return what an oracle with rounds noted on a trial when it suggested it; nothing of any other."""
    found: Noted = study.get_trials(deepcopy=False)[number].system_attrs.get(KEY, {})
    return found


def sampler(config: Config, number: int, space: Space) -> optuna.samplers.BaseSampler:
    """Return a sampler of its own for one trial: what it suggests depends on the study's seed, the number and the history alone.

    Its maker is given a ``seed`` of the trial and, if it takes them, the trial's ``number``, the ``space``, the ``study_seed`` and how many
    ``objectives`` there are. Where the space has constraints, it is made anew, with another seed, until it suggests what meets them.
    """

    def made(attempt: int) -> optuna.samplers.BaseSampler:
        return _made(config, number, space, _seed(config, number, attempt))

    return Feasible(made, space, _seed(config, number)) if space.constraints else made(0)


def _seed(config: Config, number: int, attempt: int = 0) -> int:
    name = f"{config.seed}/{number}" + f"/{attempt}" * (attempt > 0)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _made(config: Config, number: int, space: Space, seed: int) -> optuna.samplers.BaseSampler:
    if config.engine == "keras_tuner":
        return OracleSampler(config, space, seed)
    make = resolve(config.sampler, config.trusted_modules)
    facts = {"number": number, "space": space, "study_seed": config.seed, "objectives": len(objectives(config))}
    wanted = {name: fact for name, fact in facts.items() if name in inspect.signature(make).parameters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # groups of conditional parameters
        made: optuna.samplers.BaseSampler = make(**arguments(config.sampler), seed=seed, **wanted)
    return made


def ask(
    study: optuna.Study, number: int, *, space: Space, config: Config, known: Params | None = None, noted: Noted | None = None
) -> tuple[optuna.Trial, Params]:
    """Return trial ``number`` of the study with its parameters: a new suggestion, or those that are ``known`` and were ``noted`` of it."""
    study.sampler = sampler(config, number, space)
    if known is not None:
        waiting = {"fixed_params": known, **({KEY: noted} if noted else {})}
        study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=waiting))
    trial = study.ask()
    _ = trial.relative_params  # the sampler is asked even so: what it notes on a trial (CMA-ES its generation) must be there again
    return trial, space.suggest(trial)


def best(trials: Iterable[Record], *names: str) -> Record | None:
    """Return the complete trial that is best in the first objective, the others deciding between equals; None if none is complete."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    return min(complete, key=lambda trial: score(values(trial.value or 0.0, trial.metrics, names), names), default=None)


def claim(folder: Path, best: Record | None, picked_from: int, objective: str) -> str:
    """Say how good the best trial of the study in ``folder`` is on the held-out half, how sure that is, and of how many it was picked."""
    if best is None:
        return "no trial was completed"
    if not (folder / "trials" / str(best.number) / "logits.npz").exists():
        return f"best: trial {best.number}, whose predictions were not kept: the study looked for something else when it ended"
    with np.load(folder / "trials" / str(best.number) / "logits.npz") as kept:
        logits, labels = kept["report"], kept["report_labels"]
    low, high = macro_f1_interval(logits.argmax(axis=1), labels, logits.shape[1])
    score = macro_f1(logits, labels, logits.shape[1])
    return (
        f"best: trial {best.number}, macro F1 {score:.3f} on {len(labels)} held-out images "
        f"(95 % interval {low:.3f} to {high:.3f}, one seed), picked from {picked_from} trial{'s' * (picked_from != 1)} by {objective}"
    )
