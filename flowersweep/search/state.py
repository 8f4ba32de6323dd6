"""The trials of a study: what is asked, journaled and told of each, with every event in the journal before anything acts on it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field, replace
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
from flowersweep.study import records
from flowersweep.study.clock import Clock
from flowersweep.study.journal import Journal
from flowersweep.study.objectives import objective_names, objective_values, training_seconds
from flowersweep.study.records import HyperbandState, Record
from flowersweep.training import trial as one
from flowersweep.training import trial_figures
from flowersweep.training.checkpoint import Checkpoint, Epoch, Metrics
from flowersweep.training.context import TrainingContext

Watch = Callable[[Record], None]  # is told whenever the journal has something new of a trial
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
        self.trials: list[Record] = []
        self.alike: defaultdict[str | None, list[int]] = defaultdict(list)  # identity of a training -> trials that asked for it
        for record in records.fold_records(self.journal.events):
            self._remember(record)
        self.imported = [event for event in self.journal.events if event["event"] == "import"]
        self.optuna = optuna_study.rebuild_study(self.trials, self.space, self.config, self.imported)
        self.open = optuna_study.running_trials(self.optuna)  # in flight in the Optuna study, by its numbers
        self.deaths = records.count_worker_failures(self.journal.events)
        self.shelf = TrialStore(self.folder, self.config, self.trials)
        self.clock = Clock(self.config, self.journal.events)
        self.ended = sum(record.tell is not None for record in self.trials)
        self.told = time.monotonic()  # when a training last said how far it is

    @property
    def best(self) -> Record | None:
        """The best complete trial so far."""
        return self.shelf.best

    @property
    def remaining(self) -> list[int]:
        """The numbers of the trials that have not ended."""
        known = len(self.trials)
        return [number for number in range(self.config.sweep.n_trials) if number >= known or self.trials[number].tell is None]

    def ask(self, number: int) -> tuple[Record, optuna.Trial]:
        """Return trial ``number``: the one that was in flight, or a new suggestion."""
        known, noted = (self.trials[number].params, self.trials[number].hyperband_state) if number < len(self.trials) else (None, None)
        place = self._place(number)
        if (trial := self.open.pop(place, None)) is None:
            trial, params = optuna_study.ask_trial(self.optuna, place, space=self.space, config=self._liar, known=known, noted=noted)
        if known is None:
            noted = optuna_study.hyperband_state(self.optuna, place)
            event = self.journal.append("ask", trial=number, params=params, **self._meaning(params, noted), **self._notes(number))
            self._remember(records.record_from_ask(event, self.trials))
            self.watch(self.trials[number])
        if known is None or self.trials[number].notes is None:
            self._relive(self.trials[number], trial)
        return self.trials[number], trial

    def _place(self, number: int) -> int:
        """Return the number that a trial has in the Optuna study, where the imported ones come first."""
        return len(self.imported) + number

    @property
    def _liar(self) -> Config:
        """The configuration to ask with.

        Where trials run beside each other, TPE takes those in flight for bad ones (Optuna's constant liar), or it would suggest nearly
        the same to all workers at once. It costs nothing: without others in flight it suggests what it does without the lie.
        """
        if self.does.slots == 1 or "constant_liar" not in self.config.sampler:
            return self.config
        return replace(self.config, sampler={**self.config.sampler, "constant_liar": True})

    def _notes(self, number: int) -> dict[str, Any]:
        """What an event must say of a trial that has others beside it: by the time it is rebuilt they have gone on."""
        beside = self.does.slots > 1 or (number < len(self.trials) and self.trials[number].notes is not None)
        return {"attributes": optuna_study.optuna_attrs(self.optuna, self._place(number)), **self._moment} if beside else {}

    @property
    def _moment(self) -> dict[str, int]:
        """When something is journaled, where that does not depend on the clock."""
        return {} if self.does.moment is None else {"moment": self.does.moment}

    def _relive(self, record: Record, trial: optuna.Trial) -> None:
        """Tell the pruner what the journal has of a trial that had none beside it, or takes another further: it decides as it did."""
        last = self.configured(record).train.all_epochs
        for epoch, value in record.reports.items():
            record.pruned = self._prunes(trial, epoch, value, last)

    def _remember(self, record: Record) -> None:
        self.trials.append(record)
        self.alike[record.identity].append(record.number)

    def _meaning(self, params: Params, noted: HyperbandState) -> dict[str, Any]:
        """Return what an event of asking says of these parameters: the settings, and which trial they repeat, if any."""
        settings = self.space.settings(params)
        what = training_identity(self.space, params, self.workshop)
        if "continues" in noted:
            seed = self.trials[noted["continues"]].seed
            own = {} if seed is None else {"seed": seed}
            return {"settings": {**settings, **own}, "identity": what, "noted": noted, **own}
        more = {"noted": noted} if noted else {}
        same = self.alike.get(what)
        if not same:
            return {"settings": settings, "identity": what, **more}
        if self.config.sweep.repeats == "reuse":
            return {"settings": settings, "identity": what, "repeats": same[0]}
        seed = replicate_seed(what, len(same))
        return {"settings": {**settings, "seed": seed}, "identity": what, "repeats": same[0], "seed": seed, **more}

    def configured(self, record: Record) -> Config:
        """Return the configuration of a trial; one that repeats another has a seed of its own."""
        config = self.space.config(record.params)
        return config if record.seed is None else replace(config, seed=record.seed)

    def reuse(self, record: Record, trial: optuna.Trial) -> None:
        """Tell of a trial what the one told that it repeats. The pruner is not asked: nothing has been trained that could count twice."""
        first = self.trials[record.repeats or 0]
        assert first.tell is not None
        record.reports = dict(first.reports)
        for epoch, value in record.reports.items():
            if not self.config.sweep.objectives:
                trial.report(value, epoch)
        reason = " ".join(filter(None, [first.tell["reason"], f"(the result of trial {first.number}, which trained the same)"]))
        self.tell(record, trial, first.state, value=first.value, metrics=first.metrics, reason=reason)

    def tasks(self, record: Record, trial: optuna.Trial) -> Turns:
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

    def report(self, record: Record, trial: optuna.Trial, epochs: list[Epoch], last: int) -> None:
        """Journal what a segment gave, and note whether the pruner ends the trial here."""
        epoch, value = epochs[-1].epoch, epochs[-1].metrics[self.config.sweep.objective]
        if notes := self._notes(record.number):  # the decision and what it was made with: nothing has acted on it yet
            record.pruned = self._prunes(trial, epoch, value, last)
            notes = {
                "attributes": optuna_study.optuna_attrs(self.optuna, self._place(record.number)),
                "pruned": record.pruned,
                "worker": self.does.who(record.number),
                **self._moment,
            }
        self.journal.append("report", trial=record.number, epochs=[asdict(each) for each in epochs], value=value, **notes)
        record.reports[epoch], record.metrics = value, epochs[-1].metrics
        self.deaths.pop(record.number, None)
        record.times += [each.time for each in epochs]
        self.watch(record)
        if not notes:
            record.pruned = self._prunes(trial, epoch, value, last)

    def _prunes(self, trial: optuna.Trial, epoch: int, value: float, last: int) -> bool:
        if self.config.sweep.objectives:
            return False  # with several, a trial cannot be stopped by one
        trial.report(value, epoch)
        return epoch < last and bool(trial.should_prune())  # some pruners say it as numpy does, and the journal cannot

    def complete(self, record: Record, trial: optuna.Trial, result: one.Result, trained: Checkpoint) -> Turns:
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
        record: Record,
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
        record.tell = self.journal.append(
            "tell",
            trial=record.number,
            state=state,
            value=value,
            metrics=metrics or {},
            reason=reason,
            folder=folder,
            attributes=optuna_study.optuna_attrs(self.optuna, self._place(record.number)),
            **self._moment,
        )
        record.metrics = metrics or record.metrics
        self.optuna.tell(trial, found, state=optuna_study.STATES[state])
        self.ended += 1
        self.shelf.on_trial_end(record)
        self.watch(record)
