"""The coordinator of a study: ask, compose, advance, tell, with every event in the journal before anything acts on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from flowersweep import trial as one
from flowersweep.config import Config
from flowersweep.errors import TrialFailed
from flowersweep.journal import Journal
from flowersweep.runtime import compiles
from flowersweep.search import history
from flowersweep.search.history import Record
from flowersweep.search.identity import identity, replicate_seed
from flowersweep.search.objectives import objectives, score, seconds, values
from flowersweep.search.space import Params, Space
from flowersweep.training.checkpoint import Checkpoint, Epoch, Metrics, save_arrays
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
        self.trials = history.records(self.journal.events)
        self.optuna = history.rebuilt(self.trials, self.space, self.config)
        self.compiled: dict[int, int] = {}  # trial -> programs compiled while it ran

    @property
    def best(self) -> Record | None:
        """The best complete trial so far."""
        return history.best(self.trials, *objectives(self.config))

    @property
    def remaining(self) -> range:
        """The numbers of the trials that have not ended."""
        return range(len(self.optuna.trials), self.config.sweep.n_trials)

    def run(self) -> None:
        """Run trials until there are ``sweep.n_trials``, going on with the one that was interrupted."""
        for number in self.remaining:
            record, trial = self.ask(number)
            before = compiles()
            try:
                self.evaluate(record, trial) if record.reused is None else self.reuse(record, trial)
            except TrialFailed as failure:
                self.tell(record, trial, "failed", reason=str(failure))
            self.compiled[number] = compiles() - before

    def ask(self, number: int) -> tuple[Record, optuna.Trial]:
        """Return trial ``number``: the one that was in flight, or a new suggestion."""
        known = self.trials[number].params if number < len(self.trials) else None
        trial, params = history.ask(self.optuna, number, space=self.space, config=self.config, known=known)
        if number == len(self.trials):
            event = self.journal.append("ask", trial=number, params=params, **self._meaning(params))
            self.trials.append(history.begun(event))
            self.watch(self.trials[number])
        return self.trials[number], trial

    def _meaning(self, params: Params) -> dict[str, Any]:
        """Return what an event of asking says of these parameters: the settings, and which trial they repeat, if any."""
        settings = self.space.settings(params)
        what = identity(self.space.config(params), self.workshop.runtime.replicas)
        same = [record.number for record in self.trials if record.identity == what]
        if not same:
            return {"settings": settings, "identity": what}
        if self.config.sweep.repeats == "reuse":
            return {"settings": settings, "identity": what, "repeats": same[0]}
        seed = replicate_seed(what, len(same))
        return {"settings": {**settings, "seed": seed}, "identity": what, "repeats": same[0], "seed": seed}

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
        self.workshop.shared(config)  # may take minutes, which no checkpoint can save
        pruned = False
        for epoch, value in record.reports.items():
            pruned = self._prunes(trial, epoch, value, last)
        checkpoint, keep = Checkpoint.load(self._checkpoint(record), self.workshop.runtime.whole), self._keeper(record, config)
        while not pruned and checkpoint.epoch < last:
            until = min((checkpoint.epoch // length + 1) * length, last)
            checkpoint, epochs = one.advance(config, checkpoint, until, self.workshop, keep)
            if checkpoint.epoch not in record.reports:
                pruned = self.report(record, trial, epochs, last)
            keep(checkpoint)
        if pruned:
            self.tell(record, trial, "pruned", value=list(record.reports.values())[-1])
        else:
            self.complete(record, trial, one.finish(config, checkpoint, self.workshop), checkpoint)

    def _keeper(self, record: Record, config: Config) -> Callable[[Checkpoint], None]:
        """Return a function that writes a checkpoint when so much training would be lost that it is worth it, and says where it is."""
        saved = told = time.monotonic()

        def keep(checkpoint: Checkpoint) -> None:
            nonlocal saved, told
            record.at = checkpoint.epoch, len(checkpoint.losses)
            if time.monotonic() - told > 1:
                self.watch(record)
                told = time.monotonic()
            if time.monotonic() - saved > config.train.checkpoint_seconds:
                checkpoint.save(self._checkpoint(record))
                saved = time.monotonic()

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
        """Keep the logits, and the weights if no trial was better; then tell."""
        value, metrics, names = result.metrics[self.config.sweep.objective], result.metrics, objectives(self.config)
        if "time" in names:
            config = self.configured(record)
            metrics = {**metrics, "time": seconds(record.times, one.epochs(config) - config.train.epochs)}
        folder = self.folder / "trials" / str(record.number)
        arrays = {name: logits.astype("float16") for name, logits in result.logits.items()}
        save_arrays(folder / "logits.npz", {**arrays, **{f"{name}_labels": labels for name, labels in result.labels.items()}})
        best = self.best
        if best is None or self._score(value, metrics) < self._score(best.value, best.metrics):
            assert checkpoint.state is not None
            Checkpoint(checkpoint.epoch, checkpoint.state._replace(optimizer=[])).save(self.weights(record))
        self.tell(record, trial, "complete", value=value, metrics=metrics, folder=str(folder.relative_to(self.folder)))

    def _score(self, value: float | None, metrics: Metrics) -> tuple[float, ...]:
        assert value is not None
        return score(values(value, metrics, objectives(self.config)), objectives(self.config))

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
        found = values(value, metrics or {}, objectives(self.config)) if state == "complete" and value is not None else None
        self.optuna.tell(trial, found, state=history.STATES[state])
        self._tidy()
        self.watch(record)

    def weights(self, record: Record) -> Path:
        """Return where the weights of a trial lie while it is the best."""
        return self.folder / "trials" / str(record.number) / "weights.npz"

    def _checkpoint(self, record: Record) -> Path:
        return self.folder / "checkpoints" / f"{record.number}.npz"

    def _tidy(self) -> None:
        for record in self.trials:
            if record.tell:
                self._checkpoint(record).unlink(missing_ok=True)
                if record is not self.best:
                    self.weights(record).unlink(missing_ok=True)
