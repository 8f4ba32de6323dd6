"""The state of a running study: suggestions, reports and results of its trials.

Every event is in the journal before anything acts on it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import optuna

from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError
from flowersweep.execution.protocol import Executor, Trainer
from flowersweep.search import optuna_study
from flowersweep.search.duplicates import replicate_seed, training_identity
from flowersweep.search.source import TrialSource
from flowersweep.search.trial_store import TrialStore
from flowersweep.search.user_requests import UserRequests
from flowersweep.space.space import Params
from flowersweep.study.clock import Clock
from flowersweep.study.events import Epoch, EpochsReported, Event, Metrics, TrialAsked, TrialEnded
from flowersweep.study.journal import Journal
from flowersweep.study.objectives import objective_names, objective_values
from flowersweep.study.records import HyperbandState, StudyRecord, TrialRecord

OnUpdate = Callable[[TrialRecord], None]  # called when a trial has news
UPDATE_INTERVAL_S = 1.0  # between two calls while a trial trains


class Study:
    """The state of a study: its journal, its records, and its Optuna study.

    Args:
        source: Where its trials come from.
        journal: Open, with its first event.
        on_update: Called when a trial has news.
        enqueued: Points for the first trials, instead of suggestions.
    """

    def __init__(
        self,
        config: Config,
        source: TrialSource,
        journal: Journal,
        trainer: Trainer,
        *,
        executor: Executor,
        on_update: OnUpdate = lambda record: None,
        enqueued: Sequence[Params] = (),
    ) -> None:
        self.config, self.source, self.journal, self.trainer = config, source, journal, trainer
        self.executor, self.on_update, self.enqueued = executor, on_update, enqueued
        self.folder = journal.path.parent
        self.record = StudyRecord(journal.events)
        self.trials = self.record.trials
        self.trials_by_identity: defaultdict[str | None, list[int]] = defaultdict(list)
        for record in self.trials:
            self.trials_by_identity[record.identity].append(record.number)
        self.imported = self.record.started.imported  # Optuna's study counts them first
        self.optuna = optuna_study.rebuild_study(self.trials, source, config, self.imported)
        self.running_trials = optuna_study.running_trials(self.optuna, len(self.imported))
        self.trial_store = TrialStore(self.folder, config, self.trials)
        self.clock = Clock(self.record.seconds, config.sweep.budget.minutes)
        self.ended = sum(record.ended is not None for record in self.trials)
        self.requests = UserRequests(self)
        self._updated = time.monotonic()

    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial so far."""
        return self.trial_store.best

    @property
    def remaining(self) -> Iterator[int]:
        """The numbers of the trials that have not ended, which may be more than memory holds."""
        wanted = self.config.sweep.n_trials
        yield from (record.number for record in self.trials[:wanted] if record.ended is None)
        yield from range(len(self.trials), wanted)

    def write(self, event: Event) -> None:
        """Journal an event, then apply it to the record."""
        self.record.apply(self.journal.append(event))

    def trial_config(self, record: TrialRecord) -> Config:
        """Return the configuration of a trial; a repetition has its own seed."""
        config = self.config.with_experiment(self.source.config(record.params).experiment)
        return config if record.seed is None else replace(config, seed=record.seed)

    def ask(self, number: int) -> tuple[TrialRecord, optuna.Trial]:
        """Return trial ``number``: the one in flight, or a new suggestion."""
        if number >= len(self.trials):
            return self._ask_new(number)
        record = self.trials[number]
        trial = self.running_trials.pop(number, None)
        if trial is None:
            trial, _ = self._ask_optuna(number, record.params, record.hyperband_state)
        if record.optuna_attrs is None:
            self._replay_reports(record, trial)
        return record, trial

    def _ask_new(self, number: int) -> tuple[TrialRecord, optuna.Trial]:
        by_hand = number >= len(self.enqueued) and bool(self.record.pending)
        if by_hand or number < len(self.enqueued):
            point = self.record.pending[0] if by_hand else self.enqueued[number]
            self.optuna.enqueue_trial(point)
        trial, params = self._ask_optuna(number)
        state = optuna_study.hyperband_state(self.optuna, trial)
        event = self._resolve_duplicate(number, params, state)
        event = replace(event, added=True) if by_hand else event
        self.write(replace(event, **self._concurrency_fields(trial, number)))
        record = self.trials[number]
        self.trials_by_identity[record.identity].append(number)
        self.on_update(record)
        self._replay_reports(record, trial)
        return record, trial

    def _ask_optuna(
        self, number: int, params: Params | None = None, state: HyperbandState | None = None
    ) -> tuple[optuna.Trial, Params]:
        config = self._ask_config
        # imported trials take the place of the sampler's starting points
        place = len(self.imported) + number
        return optuna_study.ask_trial(
            self.optuna, place, space=self.source, config=config, known=params, noted=state
        )

    @property
    def _ask_config(self) -> Config:
        """The configuration to ask with.

        With concurrent trials, TPE takes those in flight for bad (Optuna's ``constant_liar``).
        Otherwise it would suggest nearly the same point to all workers. With no other trial in
        flight, this changes nothing.
        """
        if self.executor.slots == 1 or "constant_liar" not in self.config.sampler:
            return self.config
        return replace(self.config, sampler={**self.config.sampler, "constant_liar": True})

    def _concurrency_fields(self, trial: optuna.Trial, number: int) -> dict[str, Any]:
        """Return the extra fields of an event while other trials may run.

        A resume cannot recompute them, because the other trials have advanced by then.
        """
        journaled = number < len(self.trials)
        if self.executor.slots == 1 and not (
            journaled and self.trials[number].optuna_attrs is not None
        ):
            return {}
        attributes = optuna_study.optuna_attrs(self.optuna, trial)
        return {"attributes": attributes, "logical_time": self.executor.logical_time}

    def _replay_reports(self, record: TrialRecord, trial: optuna.Trial) -> None:
        """Report the journaled values to the pruner, so that it repeats its decisions."""
        if not record.reports:
            return
        last = self.trial_config(record).train.all_epochs
        for epoch, value in record.reports.items():
            record.pruned = self._should_prune(trial, epoch, value, last)

    def _resolve_duplicate(self, number: int, params: Params, state: HyperbandState) -> TrialAsked:
        """Return the event of a new trial, with the trial that it repeats and its seed, if any."""
        try:
            settings = self.source.settings(params)
            identity = training_identity(self.source, params, self.trainer)
        except ConfigError:  # these values do not go together: the trial will fail and say why
            return TrialAsked(trial=number, params=params, settings={}, hyperband=dict(state))
        event = TrialAsked(
            trial=number, params=params, settings=settings, identity=identity, hyperband=dict(state)
        )
        same = self.trials_by_identity.get(identity)
        if "continues" in state:
            seed = self.trials[state["continues"]].seed
        elif not same:
            return event
        elif self.config.sweep.on_duplicate == "reuse":
            return replace(event, repeats=same[0], hyperband={})
        else:
            seed = replicate_seed(identity, len(same))
            event = replace(event, repeats=same[0])
        if seed is None:
            return event
        return replace(event, settings={**settings, "seed": seed}, seed=seed)

    def reuse_result(self, record: TrialRecord, trial: optuna.Trial) -> None:
        """End a trial with the result of the trial that it repeats.

        The pruner is not asked, since the same training must not count twice.
        """
        first = self.trials[record.repeats or 0]
        if first.ended is None:
            raise ValueError(f"trial {first.number} has not ended")
        record.reports = dict(first.reports)
        if not self.config.sweep.objectives:
            for epoch, value in record.reports.items():
                trial.report(value, epoch)
        source = f"(the result of trial {first.number}, which trained the same)"
        reason = " ".join(filter(None, [first.ended.reason, source]))
        self.end_trial(
            record, trial, first.state, value=first.value, metrics=first.metrics, reason=reason
        )

    def on_progress(self, record: TrialRecord, epoch: int, steps: int) -> None:
        """Record the progress of a trial."""
        record.progress = epoch, steps
        if time.monotonic() - self._updated > UPDATE_INTERVAL_S:
            self.on_update(record)
            self._updated = time.monotonic()

    def report_epochs(self, record: TrialRecord, trial: optuna.Trial, epochs: list[Epoch]) -> None:
        """Journal a segment; note whether the pruner ends the trial here."""
        last = self.trial_config(record).train.all_epochs
        epoch, value = epochs[-1].epoch, epochs[-1].metrics[self.config.sweep.objective]
        event = EpochsReported(trial=record.number, epochs=epochs, value=value)
        alone = not self._concurrency_fields(trial, record.number)
        if not alone:  # journal the decision with its inputs before anything acts on it
            pruned = self._should_prune(trial, epoch, value, last)
            fields = self._concurrency_fields(trial, record.number)
            worker = self.executor.worker_of(record.number)
            event = replace(event, pruned=pruned, worker=worker, **fields)
        self.write(event)
        self.on_update(record)
        if alone:
            record.pruned = self._should_prune(trial, epoch, value, last)

    def _should_prune(self, trial: optuna.Trial, epoch: int, value: float, last: int) -> bool:
        if self.config.sweep.objectives:
            return False  # Optuna cannot prune by several objectives
        trial.report(value, epoch)
        # some pruners return a NumPy bool, which JSON cannot encode
        return epoch < last and bool(trial.should_prune())

    def end_trial(
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
        """Journal the end of a trial, tell Optuna, and remove files that no trial needs."""
        event = TrialEnded(
            trial=record.number,
            state=state,
            value=value,
            metrics=metrics or {},
            reason=reason,
            folder=folder,
            attributes=optuna_study.optuna_attrs(self.optuna, trial),
            logical_time=self.executor.logical_time,
        )
        self.write(event)
        values = None
        if state == "complete" and value is not None:
            values = objective_values(value, event.metrics, objective_names(self.config))
        self.optuna.tell(trial, values, state=optuna_study.STATES[state])
        self.ended += 1
        self.trial_store.on_trial_end(record)
        self.on_update(record)
