"""The coordinator of a study: ask, compose, advance, tell, with every event in the journal before anything acts on it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import optuna

from flowersweep import signals
from flowersweep import trial as one
from flowersweep.config import Config, at_sizes
from flowersweep.errors import TrialFailed
from flowersweep.journal import Journal
from flowersweep.runtime import compiles
from flowersweep.search import history, pictures
from flowersweep.search.budget import BudgetUsed, Clock, foretold
from flowersweep.search.executors import Executor, InProcess, Left, Lost
from flowersweep.search.history import Record
from flowersweep.search.identity import identity, replicate_seed
from flowersweep.search.objectives import objectives, seconds, values
from flowersweep.search.retention import Shelf
from flowersweep.search.rounds import Noted
from flowersweep.search.space import Params, Space
from flowersweep.search.workbench import Advance, Begin, Draw, Finish, Job, Keep, Task, images_and_weights
from flowersweep.training.checkpoint import Checkpoint, Epoch, Metrics
from flowersweep.training.workshop import Workshop

Watch = Callable[[Record], None]  # is told whenever the journal has something new of a trial
Turns = Generator[Task, Any, None]  # the tasks of a trial, each sent the answer of the one before
DEATHS = 3  # of workers since it last reported, after which the trial that they had counts as their cause


@dataclass
class Flight:
    """A trial that somebody trains."""

    record: Record
    trial: optuna.Trial
    turns: Turns
    fresh: bool  # whether it began in this process
    begun: float  # minutes used when it did
    compiled: int  # programs that this process had compiled then


@dataclass
class Study:
    """A study while it runs: its journal, its trials so far, and the Optuna study made of them."""

    config: Config
    space: Space
    journal: Journal
    workshop: Workshop
    watch: Watch

    executor: Executor | None = field(default=None, kw_only=True)  # None: trials are trained in this process

    def __post_init__(self) -> None:
        self.folder = self.journal.path.parent
        self.does: Executor = self.executor or InProcess(self.workshop)
        self.trials: list[Record] = []
        self.alike: defaultdict[str | None, list[int]] = defaultdict(list)  # identity of a training -> trials that asked for it
        for record in history.records(self.journal.events):
            self._remember(record)
        self.optuna = history.rebuilt(self.trials, self.space, self.config)
        self.open = history.running(self.optuna)  # trials that are in flight in the Optuna study
        self.flights: dict[int, Flight] = {}
        self.held: defaultdict[int, list[tuple[Record, optuna.Trial]]] = defaultdict(list)  # trial -> those that wait for its result
        self.deaths = history.deaths(self.journal.events)
        self.shelf = Shelf(self.folder, self.config, self.trials)
        self.clock = Clock(self.config, self.journal.events)
        self.ended = sum(record.tell is not None for record in self.trials)
        self.forecast = foretold(self.journal.events, self.config.sweep.n_trials)
        self.stopped: str | None = None  # why it ended before its last trial
        self.compiled: dict[int, int] = {}  # trial -> programs compiled while it ran
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

    def run(self) -> None:
        """Run trials until there are ``sweep.n_trials`` or the minutes are used up, going on with those that were interrupted."""
        waiting = iter(self.remaining)
        try:
            while True:
                while len(self.flights) < self.does.slots and not (self.flights and self.clock.over):
                    if (number := next(waiting, None)) is None:
                        break
                    self.clock.require(self.ended, self.config.sweep.n_trials)
                    signals.require_none()
                    self._begin(number)
                if not self.flights:
                    break
                self._turn()
            if self.remaining:
                self.clock.require(self.ended, self.config.sweep.n_trials)
        except BudgetUsed as used:
            self.stopped = str(used)

    def _begin(self, number: int) -> None:
        record, trial = self.ask(number)
        if record.reused is None:
            self.fly(record, trial)
        elif self.trials[record.reused].tell is not None:
            self.reuse(record, trial)
        else:
            self.held[record.reused].append((record, trial))

    def evaluate(self, record: Record, trial: optuna.Trial) -> None:
        """Run one trial to its end."""
        self.fly(record, trial)
        while record.number in self.flights:
            self._turn()

    def fly(self, record: Record, trial: optuna.Trial) -> None:
        """Have a trial taken up where it stands."""
        turns, minutes = self.tasks(record, trial), self.clock.minutes
        self.flights[record.number] = Flight(record, trial, turns, not record.reports, minutes, compiles())
        self._send(record.number, None)

    def _turn(self) -> None:
        """Wait for an answer, and act on it; nothing may have been answered yet."""
        if self.clock.over:
            self.does.leave()
        answered = self.does.answer(self)
        signals.require_none()
        match answered:
            case (number, Left()):
                del self.flights[number]
            case (number, Lost(reason)):
                self._lost(self.flights[number], reason)
            case (number, answer):
                self._send(number, answer)

    def _send(self, number: int, answer: Any) -> None:
        """Go on with a trial that has its answer, up to its next task or its end."""
        flight = self.flights[number]
        try:
            self.does.give(number, flight.turns.throw(answer) if isinstance(answer, TrialFailed) else flight.turns.send(answer))
            return
        except StopIteration:
            pass
        except TrialFailed as failure:
            self.tell(flight.record, flight.trial, "failed", reason=str(failure))
        self._landed(flight)

    def _lost(self, flight: Flight, reason: str) -> None:
        """Have a trial whose worker is gone taken up by another, as after a restart; unless it is the trial that kills them."""
        number = flight.record.number
        self.journal.append("lost", trial=number, reason=reason)
        self.deaths[number] += 1
        if self.deaths[number] < DEATHS:
            self.fly(flight.record, flight.trial)
            return
        self.tell(flight.record, flight.trial, "failed", reason=f"its worker was lost {DEATHS} times; the last {reason}")
        self._landed(flight)

    def _landed(self, flight: Flight) -> None:
        number = flight.record.number
        del self.flights[number]
        self.does.release(number)
        self.compiled[number] = self.does.compiled.pop(number, compiles() - flight.compiled)
        if self.compiled[number]:
            self.journal.append("compiled", trial=number, programs=self.compiled[number])
        for record, trial in self.held.pop(number, []):
            self.reuse(record, trial)
        # the first trial compiles, a pruned one is short
        if self.forecast is None and flight.fresh and number >= self.does.slots and flight.record.state == "complete":
            left = (self.config.sweep.n_trials - self.ended) / self.does.slots
            self.foretell(self.clock.minutes + (self.clock.minutes - flight.begun) * left)

    def foretell(self, minutes: float) -> None:
        """Journal how many minutes the study is expected to take, all in all."""
        self.forecast = round(minutes, 3)
        self.journal.append("forecast", minutes=self.forecast, trials=self.config.sweep.n_trials)

    def ask(self, number: int) -> tuple[Record, optuna.Trial]:
        """Return trial ``number``: the one that was in flight, or a new suggestion."""
        known, noted = (self.trials[number].params, self.trials[number].noted) if number < len(self.trials) else (None, None)
        if (trial := self.open.pop(number, None)) is None:
            trial, params = history.ask(self.optuna, number, space=self.space, config=self._liar, known=known, noted=noted)
        if known is None:
            noted = history.noted(self.optuna, number)
            event = self.journal.append("ask", trial=number, params=params, **self._meaning(params, noted), **self._notes(number))
            self._remember(history.begun(event, self.trials))
            self.watch(self.trials[number])
        if known is None or self.trials[number].notes is None:
            self._relive(self.trials[number], trial)
        return self.trials[number], trial

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
        return {"attributes": history.attributes(self.optuna, number)} if beside else {}

    def _relive(self, record: Record, trial: optuna.Trial) -> None:
        """Tell the pruner what the journal has of a trial that had none beside it, or takes another further: it decides as it did."""
        last = one.epochs(self.configured(record))
        for epoch, value in record.reports.items():
            record.pruned = self._prunes(trial, epoch, value, last)

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

    def tasks(self, record: Record, trial: optuna.Trial) -> Turns:
        """Yield the tasks of a trial, segment by segment, until it is pruned or done; then tell.

        What the journal has of it already is not written again: the same segment gives the same numbers.
        """
        config, length = self.configured(record), self.config.sweep.segment_epochs
        last, path = one.epochs(config), self.shelf.begin(record)
        same = images_and_weights(config, self.workshop) if self.does.remote else None
        job = Job(record.number, config, record.params, record.seed, same)
        epoch: int = yield Begin(job, (path.read_bytes() if path.exists() else None) if self.does.remote else path)
        while not record.pruned and epoch < last:
            epoch = min((epoch // length + 1) * length, last)
            epochs: list[Epoch] = yield Advance(epoch)
            if epoch not in record.reports:
                self.report(record, trial, epochs, last)
        if record.pruned:
            if record.noted:  # by an oracle, which may take it further
                yield Keep()
            self.tell(record, trial, "pruned", value=list(record.reports.values())[-1])
        else:
            result, trained = yield Finish()
            yield from self.complete(record, trial, result, trained)

    def passed(self, number: int, epoch: int, steps: int) -> None:
        """Take note of how far a training is."""
        signals.require_none()
        record = self.trials[number]
        record.at = epoch, steps
        if time.monotonic() - self.told > 1:
            self.watch(record)
            self.told = time.monotonic()

    def store(self, number: int, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint of a trial in flight."""
        self.shelf.put_checkpoint(self.trials[number], checkpoint)

    def late(self) -> bool:
        """Say whether the minutes are used up."""
        return self.clock.over

    def report(self, record: Record, trial: optuna.Trial, epochs: list[Epoch], last: int) -> None:
        """Journal what a segment gave, and note whether the pruner ends the trial here."""
        epoch, value = epochs[-1].epoch, epochs[-1].metrics[self.config.sweep.objective]
        if notes := self._notes(record.number):  # the decision and what it was made with: nothing has acted on it yet
            record.pruned = self._prunes(trial, epoch, value, last)
            notes = {
                "attributes": history.attributes(self.optuna, record.number),
                "pruned": record.pruned,
                "worker": self.does.who(record.number),
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
        return epoch < last and trial.should_prune()

    def complete(self, record: Record, trial: optuna.Trial, result: one.Result, trained: Checkpoint) -> Turns:
        """Keep logits and pictures of one of the best, and the weights of the best; then tell."""
        config = self.configured(record)
        value, metrics = result.metrics[self.config.sweep.objective], result.metrics
        if "time" in objectives(self.config):
            metrics = {**metrics, "time": seconds(record.times, one.epochs(config) - config.train.epochs, *at_sizes(config))}
        arrays = {name: logits.astype("float16") for name, logits in result.logits.items()}
        labels = {f"{name}_labels": labels for name, labels in result.labels.items()}
        folder = self.shelf.put_result(record.number, value, metrics, {**arrays, **labels}, trained)
        if self.shelf.logits(record).exists():
            drawn: dict[str, bytes] = yield Draw(self.shelf.weights(record).exists())
            pictures.write(self.folder / folder, drawn)
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
