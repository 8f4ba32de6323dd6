"""The coordinator of a study: ask, compose, advance, tell, with every event in the journal before anything acts on it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna

from flowersweep import signals
from flowersweep import trial as one
from flowersweep.config import Config
from flowersweep.errors import TrialFailed
from flowersweep.journal import Journal
from flowersweep.runtime import compiles
from flowersweep.search import history, pictures
from flowersweep.search.budget import BudgetUsed, Clock, foretold
from flowersweep.search.history import Record
from flowersweep.search.hosts import ADVANCE, FINISH, LOAD, SHARE, loaded, order
from flowersweep.search.identity import identity, replicate_seed
from flowersweep.search.objectives import objectives, seconds, values
from flowersweep.search.retention import Shelf
from flowersweep.search.rounds import Noted
from flowersweep.search.space import Params, Space
from flowersweep.training.checkpoint import Checkpoint, Epoch, Metrics
from flowersweep.training.workshop import Workshop

Watch = Callable[[Record], None]  # is told whenever the journal has something new of a trial


@dataclass
class Study:
    """A study while it runs: its journal, its trials so far, and the Optuna study made of them."""

    config: Config
    space: Space
    journal: Journal
    workshop: Workshop
    watch: Watch

    def __post_init__(self) -> None:
        self.folder = self.journal.path.parent
        self.trials: list[Record] = []
        self.alike: defaultdict[str | None, list[int]] = defaultdict(list)  # identity of a training -> trials that asked for it
        for record in history.records(self.journal.events):
            self._remember(record)
        self.optuna = history.rebuilt(self.trials, self.space, self.config)
        self.shelf = Shelf(self.folder, self.config, self.trials)
        self.clock = Clock(self.config, self.journal.events)
        self.ended = sum(record.tell is not None for record in self.trials)
        self.forecast = foretold(self.journal.events, self.config.sweep.n_trials)
        self.stopped: str | None = None  # why it ended before its last trial
        self.compiled: dict[int, int] = {}  # trial -> programs compiled while it ran

    @property
    def best(self) -> Record | None:
        """The best complete trial so far."""
        return self.shelf.best

    @property
    def remaining(self) -> range:
        """The numbers of the trials that have not ended."""
        return range(self.ended, self.config.sweep.n_trials)

    def run(self) -> None:
        """Run trials until there are ``sweep.n_trials`` or the minutes are used up, going on with the one that was interrupted."""
        try:
            for number in self.remaining:
                self.clock.require(self.ended, self.config.sweep.n_trials)
                signals.require_none()
                self._run(number)
        except BudgetUsed as used:
            self.stopped = str(used)

    def _run(self, number: int) -> None:
        record, trial = self.ask(number)
        before, begun, fresh = compiles(), self.clock.minutes, not record.reports
        try:
            self.evaluate(record, trial) if record.reused is None else self.reuse(record, trial)
        except TrialFailed as failure:
            self.tell(record, trial, "failed", reason=str(failure))
        self.compiled[number] = compiles() - before
        if self.compiled[number]:
            self.journal.append("compiled", trial=number, programs=self.compiled[number])
        if self.forecast is None and fresh and number and record.state == "complete":  # the first trial compiles, a pruned one is short
            self.foretell(self.clock.minutes + (self.clock.minutes - begun) * len(self.remaining))

    def foretell(self, minutes: float) -> None:
        """Journal how many minutes the study is expected to take, all in all."""
        self.forecast = round(minutes, 3)
        self.journal.append("forecast", minutes=self.forecast, trials=self.config.sweep.n_trials)

    def ask(self, number: int) -> tuple[Record, optuna.Trial]:
        """Return trial ``number``: the one that was in flight, or a new suggestion."""
        known, noted = (self.trials[number].params, self.trials[number].noted) if number < len(self.trials) else (None, None)
        trial, params = history.ask(self.optuna, number, space=self.space, config=self.config, known=known, noted=noted)
        if number == len(self.trials):
            noted = history.noted(self.optuna, number)
            event = self.journal.append("ask", trial=number, params=params, **self._meaning(params, noted))
            self._remember(history.begun(event, self.trials))
            self.watch(self.trials[number])
        return self.trials[number], trial

    def _remember(self, record: Record) -> None:
        self.trials.append(record)
        self.alike[record.identity].append(record.number)

    def _meaning(self, params: Params, noted: Noted) -> dict[str, Any]:
        """Return what an event of asking says of these parameters: the settings, and which trial they repeat, if any."""
        settings = self.space.settings(params)
        config = self.space.config(params)
        several = any(parameter.path.startswith("data") for parameter in self.space.parameters)
        what = identity(config, self.workshop.runtime.replicas, self.workshop.dataset(config.data).digest if several else "")
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

    def evaluate(self, record: Record, trial: optuna.Trial) -> None:
        """Advance a trial segment by segment until it is pruned or done, and tell.

        What the journal has of it already is not written again: the same segment gives the same numbers.
        """
        config = self.configured(record)
        last, length = one.epochs(config), self.config.sweep.segment_epochs
        runtime, params = self.workshop.runtime, record.params
        order(runtime, SHARE, params)
        self.workshop.shared(config)  # may take minutes, which no checkpoint can save
        pruned = False
        for epoch, value in record.reports.items():
            pruned = self._prunes(trial, epoch, value, last)
        order(runtime, LOAD, params)
        checkpoint, keep = loaded(self.shelf.begin(record), runtime), self._keeper(record, config)
        while not pruned and checkpoint.epoch < last:
            until = min((checkpoint.epoch // length + 1) * length, last)
            order(runtime, ADVANCE, params, until, record.seed)
            checkpoint, epochs = one.advance(config, checkpoint, until, self.workshop, keep)
            if checkpoint.epoch not in record.reports:
                pruned = self.report(record, trial, epochs, last)
            if not pruned or record.noted:  # by an oracle, which may take it further
                keep(checkpoint)
        if pruned:
            self.tell(record, trial, "pruned", value=list(record.reports.values())[-1])
        else:
            order(runtime, FINISH, params)
            self.complete(record, trial, one.finish(config, checkpoint, self.workshop), checkpoint)

    def _keeper(self, record: Record, config: Config) -> Callable[[Checkpoint], None]:
        """Return a function that writes a checkpoint when so much training would be lost that it is worth it, and says where it is.

        When the minutes are used up it writes one and raises BudgetUsed.
        """
        saved = told = time.monotonic()

        def keep(checkpoint: Checkpoint) -> None:
            nonlocal saved, told
            signals.require_none()
            record.at = checkpoint.epoch, len(checkpoint.losses)
            if time.monotonic() - told > 1:
                self.watch(record)
                told = time.monotonic()
            late = self.clock.over and checkpoint.epoch < one.epochs(config)
            late = late and (self.workshop.runtime.hosts == 1 or not checkpoint.losses)  # other hosts are in the middle of the epoch
            if late or time.monotonic() - saved > config.train.checkpoint_seconds:
                self.shelf.put_checkpoint(record, checkpoint)
                saved = time.monotonic()
            if late:
                self.clock.require(self.ended, self.config.sweep.n_trials)

        return keep

    def report(self, record: Record, trial: optuna.Trial, epochs: list[Epoch], last: int) -> bool:
        """Journal what a segment gave; return whether the pruner ends the trial here."""
        epoch, value = epochs[-1].epoch, epochs[-1].metrics[self.config.sweep.objective]
        self.journal.append("report", trial=record.number, epochs=[asdict(each) for each in epochs], value=value)
        record.reports[epoch], record.metrics = value, epochs[-1].metrics
        record.times += [each.time for each in epochs]
        self.watch(record)
        return self._prunes(trial, epoch, value, last)

    def _prunes(self, trial: optuna.Trial, epoch: int, value: float, last: int) -> bool:
        if self.config.sweep.objectives:
            return False  # with several, a trial cannot be stopped by one
        trial.report(value, epoch)
        return epoch < last and trial.should_prune()

    def complete(self, record: Record, trial: optuna.Trial, result: one.Result, checkpoint: Checkpoint) -> None:
        """Keep logits and pictures of one of the best, and the weights of the best; then tell."""
        assert checkpoint.state is not None
        config = self.configured(record)
        value, metrics = result.metrics[self.config.sweep.objective], result.metrics
        if "time" in objectives(self.config):
            metrics = {**metrics, "time": seconds(record.times, one.epochs(config) - config.train.epochs)}
        arrays = {name: logits.astype("float16") for name, logits in result.logits.items()}
        labels = {f"{name}_labels": labels for name, labels in result.labels.items()}
        weights = Checkpoint(checkpoint.epoch, checkpoint.state._replace(optimizer=[]))
        folder = self.shelf.put_result(record.number, value, metrics, {**arrays, **labels}, weights)
        if self.shelf.logits(record).exists():
            pictures.draw(self.folder / folder, config, self.workshop, best=self.shelf.weights(record).exists())
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
        found = values(value, metrics or {}, objectives(self.config)) if state == "complete" and value is not None else None
        record.tell = self.journal.append(
            "tell",
            trial=record.number,
            state=state,
            value=value,
            metrics=metrics or {},
            reason=reason,
            folder=folder,
            attributes=history.attributes(self.optuna, record.number),
        )
        record.metrics = metrics or record.metrics
        self.optuna.tell(trial, found, state=history.STATES[state])
        self.ended += 1
        self.shelf.ended(record)
        self.watch(record)
