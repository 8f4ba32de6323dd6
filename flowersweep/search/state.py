"""The trials of a study: what is asked, journaled and told of each, with every event in the journal before anything acts on it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

import optuna

from flowersweep import signals
from flowersweep.config.schema import Config
from flowersweep.execution.pool import Executor, InProcess
from flowersweep.execution.runner import (
    Evaluate,
    RenderFigures,
    SaveCheckpoint,
    StartTrial,
    Task,
    TrainUntil,
    TrialSpec,
    images_and_weights,
)
from flowersweep.search import optuna_study
from flowersweep.search.deduplication import replicate_seed, training_identity
from flowersweep.search.trial_store import TrialStore
from flowersweep.space.space import Params, Space
from flowersweep.study.clock import Clock
from flowersweep.study.events import Epoch, EpochsReported, Event, Metrics, TrialAsked, TrialEnded
from flowersweep.study.journal import Journal
from flowersweep.study.objectives import objective_names, objective_values, training_seconds
from flowersweep.study.records import HyperbandState, StudyRecord, TrialRecord
from flowersweep.training import trial as one
from flowersweep.training import trial_figures
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext

Watch = Callable[[TrialRecord], None]  # is told whenever the journal has something new of a trial
Turns = Generator[Task, Any, None]  # the tasks of a trial, each sent the answer of the one before


@dataclass
class Study:
    """A study while it runs: its journal, its trials so far, and the Optuna study made of them."""

    config: Config
    space: Space
    journal: Journal
    workshop: TrainingContext
    watch: Watch

    executor: Executor | None = field(default=None, kw_only=True)  # None: trials are trained in this process

    def __post_init__(self) -> None:
        self.folder = self.journal.path.parent
        self.does: Executor = self.executor or InProcess(self.workshop)
        self.record = StudyRecord(self.journal.events)
        self.trials = self.record.trials
        self.alike: defaultdict[str | None, list[int]] = defaultdict(list)  # identity of a training -> trials that asked for it
        for record in self.trials:
            self._remember(record)
        imported = self.record.started.imported
        self.optuna = optuna_study.rebuild_study(self.trials, self.space, self.config, imported)
        self.open = optuna_study.running_trials(self.optuna, len(imported))  # trials that are in flight in the Optuna study
        self.deaths = self.record.worker_failures
        self.shelf = TrialStore(self.folder, self.config, self.trials)
        self.clock = Clock(self.record.seconds, self.config.sweep.budget.minutes)
        self.ended = sum(record.ended is not None for record in self.trials)
        self.told = time.monotonic()  # when a training last said how far it is

    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial so far."""
        return self.shelf.best

    @property
    def remaining(self) -> list[int]:
        """The numbers of the trials that have not ended."""
        known = len(self.trials)
        return [number for number in range(self.config.sweep.n_trials) if number >= known or self.trials[number].ended is None]

    def write(self, event: Event) -> None:
        """Journal an event, then take it in."""
        self.record.apply(self.journal.append(event))

    def ask(self, number: int) -> tuple[TrialRecord, optuna.Trial]:
        """Return trial ``number``: the one that was in flight, or a new suggestion."""
        record = self.trials[number] if number < len(self.trials) else None
        if (trial := self.open.pop(number, None)) is None:
            known, state = (record.params, record.hyperband_state) if record else (None, None)
            trial, params = optuna_study.ask_trial(self.optuna, number, space=self.space, config=self._liar, known=known, noted=state)
        else:
            params = trial.params
        if record is None:
            event = self._resolve_duplicate(number, params, optuna_study.hyperband_state(self.optuna, trial))
            self.write(replace(event, **self._notes(trial, number)))
            record = self.trials[number]
            self._remember(record)
            self.watch(record)
            self._relive(record, trial)
        elif record.optuna_attrs is None:
            self._relive(record, trial)
        return record, trial

    @property
    def _liar(self) -> Config:
        """The configuration to ask with.

        Where trials run beside each other, TPE takes those in flight for bad ones (Optuna's constant liar), or it would suggest nearly
        the same to all workers at once. It costs nothing: without others in flight it suggests what it does without the lie.
        """
        if self.does.slots == 1 or "constant_liar" not in self.config.sampler:
            return self.config
        return replace(self.config, sampler={**self.config.sampler, "constant_liar": True})

    def _notes(self, trial: optuna.Trial, number: int) -> dict[str, Any]:
        """What an event must say of a trial that has others beside it: by the time it is rebuilt they have gone on."""
        beside = self.does.slots > 1 or (number < len(self.trials) and self.trials[number].optuna_attrs is not None)
        return {"attributes": optuna_study.optuna_attrs(self.optuna, trial), "logical_time": self.does.moment} if beside else {}

    def _relive(self, record: TrialRecord, trial: optuna.Trial) -> None:
        """Tell the pruner what the journal has of a trial that had none beside it, or takes another further: it decides as it did."""
        last = self.configured(record).train.all_epochs
        for epoch, value in record.reports.items():
            record.pruned = self._prunes(trial, epoch, value, last)

    def _remember(self, record: TrialRecord) -> None:
        self.alike[record.identity].append(record.number)

    def _resolve_duplicate(self, number: int, params: Params, state: HyperbandState) -> TrialAsked:
        """Return the event of asking for these parameters: which trial they repeat, if any, and with which seed."""
        settings, identity = self.space.settings(params), training_identity(self.space, params, self.workshop)
        asked = TrialAsked(trial=number, params=params, settings=settings, identity=identity, hyperband=dict(state))
        same = self.alike.get(identity)
        if "continues" in state:
            seed = self.trials[state["continues"]].seed
        elif not same:
            return asked
        elif self.config.sweep.repeats == "reuse":
            return replace(asked, repeats=same[0], hyperband={})
        else:
            seed = replicate_seed(identity, len(same))
            asked = replace(asked, repeats=same[0])
        return asked if seed is None else replace(asked, settings={**settings, "seed": seed}, seed=seed)

    def configured(self, record: TrialRecord) -> Config:
        """Return the configuration of a trial; one that repeats another has a seed of its own."""
        config = self.space.config(record.params)
        return config if record.seed is None else replace(config, seed=record.seed)

    def reuse(self, record: TrialRecord, trial: optuna.Trial) -> None:
        """Tell of a trial what the one told that it repeats. The pruner is not asked: nothing has been trained that could count twice."""
        first = self.trials[record.repeats or 0]
        if first.ended is None:
            raise ValueError(f"trial {first.number} has not ended")
        record.reports = dict(first.reports)
        for epoch, value in record.reports.items():
            if not self.config.sweep.objectives:
                trial.report(value, epoch)
        reason = " ".join(filter(None, [first.ended.reason, f"(the result of trial {first.number}, which trained the same)"]))
        self.tell(record, trial, first.state, value=first.value, metrics=first.metrics, reason=reason)

    def tasks(self, record: TrialRecord, trial: optuna.Trial) -> Turns:
        """Yield the tasks of a trial, segment by segment, until it is pruned or done; then tell.

        What the journal has of it already is not written again: the same segment gives the same numbers.
        """
        config, length = self.configured(record), self.config.sweep.segment_epochs
        last, path = config.train.all_epochs, self.shelf.checkpoint_to_resume(record)
        same = images_and_weights(config, self.workshop) if self.does.remote else None
        job = TrialSpec(record.number, config, record.params, record.seed, same)
        epoch: int = yield StartTrial(job, (path.read_bytes() if path.exists() else None) if self.does.remote else path)
        while not record.pruned and epoch < last:
            epoch = min((epoch // length + 1) * length, last)
            epochs: list[Epoch] = yield TrainUntil(epoch)
            if epoch not in record.reports:
                self.report(record, trial, epochs, last)
        if record.pruned:
            if record.hyperband_state:  # by an oracle, which may take it further
                yield SaveCheckpoint()
            self.tell(record, trial, "pruned", value=list(record.reports.values())[-1])
        else:
            result, trained = yield Evaluate()
            yield from self.complete(record, trial, result, trained)

    def passed(self, number: int, epoch: int, steps: int) -> None:
        """Take note of how far a training is."""
        signals.raise_if_interrupted()
        record = self.trials[number]
        record.progress = epoch, steps
        if time.monotonic() - self.told > 1:
            self.watch(record)
            self.told = time.monotonic()

    def store(self, number: int, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint of a trial in flight."""
        self.shelf.save_checkpoint(self.trials[number], checkpoint)

    def late(self) -> bool:
        """Say whether the minutes are used up."""
        return self.clock.over

    def report(self, record: TrialRecord, trial: optuna.Trial, epochs: list[Epoch], last: int) -> None:
        """Journal what a segment gave, and note whether the pruner ends the trial here."""
        epoch, value = epochs[-1].epoch, epochs[-1].metrics[self.config.sweep.objective]
        event = EpochsReported(trial=record.number, epochs=epochs, value=value)
        notes = self._notes(trial, record.number)
        if notes:  # the decision and what it was made with: nothing has acted on it yet
            pruned = self._prunes(trial, epoch, value, last)
            notes = {**self._notes(trial, record.number), "pruned": pruned, "worker": self.does.who(record.number)}
        self.write(replace(event, **notes))
        self.watch(record)
        if not notes:
            record.pruned = self._prunes(trial, epoch, value, last)

    def _prunes(self, trial: optuna.Trial, epoch: int, value: float, last: int) -> bool:
        if self.config.sweep.objectives:
            return False  # with several, a trial cannot be stopped by one
        trial.report(value, epoch)
        return epoch < last and bool(trial.should_prune())  # some pruners say it as numpy does, and the journal cannot

    def complete(self, record: TrialRecord, trial: optuna.Trial, result: one.Result, trained: Checkpoint) -> Turns:
        """Keep logits and pictures of one of the best, and the weights of the best; then tell."""
        config = self.configured(record)
        value, metrics = result.metrics[self.config.sweep.objective], result.metrics
        if "time" in objective_names(self.config):
            metrics = {**metrics, "time": training_seconds(record.times, config.train.all_epochs - config.train.epochs)}
        arrays = {name: logits.astype("float16") for name, logits in result.logits.items()}
        labels = {f"{name}_labels": labels for name, labels in result.labels.items()}
        folder = self.shelf.save_result(record.number, value, metrics, {**arrays, **labels}, trained)
        if self.shelf.logits(record).exists():
            drawn: dict[str, bytes] = yield RenderFigures(self.shelf.weights(record).exists())
            trial_figures.write_figures(self.folder / folder, drawn)
        self.tell(record, trial, "complete", value=value, metrics=metrics, folder=folder)

    def tell(
        self,
        record: TrialRecord,
        trial: optuna.Trial,
        state: str,
        *,
        value: float | None = None,
        metrics: Metrics | None = None,
        reason: str | None = None,
        folder: str | None = None,
    ) -> None:
        """Journal how a trial ended, tell the Optuna study, and remove what no trial needs any more."""
        found = objective_values(value, metrics or {}, objective_names(self.config)) if state == "complete" and value is not None else None
        self.write(
            TrialEnded(
                trial=record.number,
                state=state,
                value=value,
                metrics=metrics or {},
                reason=reason,
                folder=folder,
                attributes=optuna_study.optuna_attrs(self.optuna, trial),
                logical_time=self.does.moment,
            )
        )
        self.optuna.tell(trial, found, state=optuna_study.STATES[state])
        self.ended += 1
        self.shelf.on_trial_end(record)
        self.watch(record)
