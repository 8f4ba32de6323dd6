"""The coordinator of a study: ask, compose, advance, tell, with every event in the journal before anything acts on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna

from flowersweep import trial as one
from flowersweep.config import Config
from flowersweep.errors import TrialFailed
from flowersweep.journal import Journal
from flowersweep.runtime import compiles
from flowersweep.search import history
from flowersweep.search.history import Record
from flowersweep.search.hosts import ADVANCE, FINISH, LOAD, SHARE, loaded, order
from flowersweep.search.space import Space
from flowersweep.training.checkpoint import Checkpoint, save_arrays
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
        return history.best(self.trials, self.config.sweep.objective)

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
                self.evaluate(record, trial)
            except TrialFailed as failure:
                self.tell(record, trial, "failed", reason=str(failure))
            self.compiled[number] = compiles() - before

    def ask(self, number: int) -> tuple[Record, optuna.Trial]:
        """Return trial ``number``: the one that was in flight, or a new suggestion."""
        self.optuna.sampler = history.sampler(self.config, number)
        if number < len(self.trials):
            self.optuna.enqueue_trial(self.trials[number].params)
        trial = self.optuna.ask()
        params = self.space.suggest(trial)
        if number == len(self.trials):
            self.journal.append("ask", trial=number, params=params, settings=self.space.settings(params))
            self.trials.append(Record(number, params))
            self.watch(self.trials[number])
        return self.trials[number], trial

    def evaluate(self, record: Record, trial: optuna.Trial) -> None:
        """Advance a trial segment by segment until it is pruned or done, and tell.

        What the journal has of it already is not written again: the same segment gives the same numbers.
        """
        config = self.space.config(record.params)
        last, length = one.epochs(config), self.config.sweep.segment_epochs
        runtime, params = self.workshop.runtime, record.params
        order(runtime, SHARE, params)
        self.workshop.shared(config)  # may take minutes, which no checkpoint can save
        pruned = False
        for epoch, value in record.reports.items():
            pruned = self._prunes(trial, epoch, value, last)
        order(runtime, LOAD, params)
        checkpoint, saved = loaded(self._checkpoint(record), runtime), time.monotonic()
        while not pruned and checkpoint.epoch < last:
            until = min(checkpoint.epoch + length, last)
            order(runtime, ADVANCE, params, until)
            checkpoint, epochs = one.advance(config, checkpoint, until, self.workshop)
            if checkpoint.epoch not in record.reports:
                pruned = self.report(record, trial, epochs, last)
            if time.monotonic() - saved > config.train.checkpoint_seconds:
                checkpoint.save(self._checkpoint(record))
                saved = time.monotonic()
        if pruned:
            self.tell(record, trial, "pruned", value=list(record.reports.values())[-1])
        else:
            order(runtime, FINISH, params)
            self.complete(record, trial, one.finish(config, checkpoint, self.workshop), checkpoint)

    def report(self, record: Record, trial: optuna.Trial, epochs: list[one.Epoch], last: int) -> bool:
        """Journal what a segment gave; return whether the pruner ends the trial here."""
        epoch, value = epochs[-1].epoch, epochs[-1].metrics[self.config.sweep.objective]
        self.journal.append("report", trial=record.number, epochs=[asdict(each) for each in epochs], value=value)
        record.reports[epoch], record.metrics = value, epochs[-1].metrics
        self.watch(record)
        return self._prunes(trial, epoch, value, last)

    def _prunes(self, trial: optuna.Trial, epoch: int, value: float, last: int) -> bool:
        trial.report(value, epoch)
        return epoch < last and trial.should_prune()

    def complete(self, record: Record, trial: optuna.Trial, result: one.Result, checkpoint: Checkpoint) -> None:
        """Keep the logits, and the weights if no trial was better; then tell."""
        value = result.metrics[self.config.sweep.objective]
        folder = self.folder / "trials" / str(record.number)
        arrays = {name: logits.astype("float16") for name, logits in result.logits.items()}
        save_arrays(folder / "logits.npz", {**arrays, **{f"{name}_labels": labels for name, labels in result.labels.items()}})
        best = self.best
        if best is None or best.value is None or history.better(value, best.value, self.config.sweep.objective):
            assert checkpoint.state is not None
            Checkpoint(checkpoint.epoch, checkpoint.state._replace(optimizer=[])).save(self.weights(record))
        self.tell(record, trial, "complete", value=value, metrics=result.metrics, folder=str(folder.relative_to(self.folder)))

    def tell(
        self,
        record: Record,
        trial: optuna.Trial,
        state: str,
        *,
        value: float | None = None,
        metrics: one.Metrics | None = None,
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
        self.optuna.tell(trial, value if state == "complete" else None, state=history.STATES[state])
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
