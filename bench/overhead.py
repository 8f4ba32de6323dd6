"""What a trial costs beside training and evaluation, as a study grows; and by hand with Optuna
(SQLite) and MLflow.

    python bench/overhead.py

A real study whose trials train nothing: `advance` and `finish` of a trial return made-up numbers at
once. Five segments a trial, logits of 3712 images and 104 classes, weights of a head. Timed on the
training thread: ask, compose, journal (each event is on disk before the next step), prune, keep the
files, tell. What the sampler itself takes is measured beside it, and taken off. By hand, in turn:
the same suggestions and reports into Optuna on SQLite, the same metrics into MLflow on SQLite,
without any logits. The goal: under 10 ms at the 1000th trial.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from flowersweep.config.compose import compose, parse
from flowersweep.config.schema import Config
from flowersweep.execution.in_process import InProcess
from flowersweep.runtime import start
from flowersweep.search.loop import TrialLoop
from flowersweep.search.samplers import factory
from flowersweep.search.state import Study
from flowersweep.search.work import TrainTrial
from flowersweep.space.space import Space, build_space
from flowersweep.study.events import StudyStarted, to_json
from flowersweep.study.journal import Journal
from flowersweep.training import trial as one
from flowersweep.training.checkpoint import Checkpoint, Epoch
from flowersweep.training.context import TrainingContext
from flowersweep.training.image_trainer import ImageTrainer
from flowersweep.training.step import State

AT, TIMED, BY_HAND, EPOCHS = (100, 1000, 10_000), 20, 10, 10
IMAGES, CLASSES, FEATURES = 3712, 104, 1280
METRICS = ("train/loss", "tune/calibrated_nll", "tune/nll", "tune/accuracy", "tune/macro_f1")
TINY = [
    "data.fetch={_target_: synthetic, classes: 5, train: 8, val: 6, test: 2, image_size: 32}",
    "model={name: tiny, backbone: {_target_: tiny_backbone}, weights: none}",
]

chance = np.random.default_rng(0)
STATE: Any = State(
    np.int32(1),
    [chance.standard_normal((CLASSES, FEATURES), np.float32), np.zeros(CLASSES, np.float32)],
    [],
    [],
    [],
)  # type: ignore[arg-type]
HALF = chance.standard_normal((IMAGES // 2, CLASSES), np.float32)
LABELS = chance.integers(CLASSES, size=IMAGES // 2).astype(np.int32)


def metrics() -> dict[str, float]:
    """Made-up scores."""
    return dict(zip(METRICS, chance.uniform(0.1, 1.0, len(METRICS)).tolist(), strict=True))


def advance(
    config: Config,
    checkpoint: Checkpoint,
    until: int,
    context: TrainingContext,
    keep: one.OnCheckpoint,
) -> tuple[Checkpoint, list[Epoch]]:
    """Train nothing."""
    return Checkpoint(until, STATE), [
        Epoch(epoch + 1, time.time(), metrics()) for epoch in range(checkpoint.epoch, until)
    ]


def finish(config: Config, checkpoint: Checkpoint, context: TrainingContext) -> one.Result:
    """Evaluate nothing."""
    return one.Result(
        metrics(), {"tune": HALF, "holdout": HALF}, {"tune": LABELS, "holdout": LABELS}
    )


def filled(path: Path, config: Config, space: Space, trials: int) -> None:
    """Write the journal of so many trials, suggested at random."""
    study, lines = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), []
    first = StudyStarted(
        study=path.parent.name,
        experiment="",
        seed=0,
        config={},
        overrides=[],
        objective=METRICS[1],
        direction="minimize",
        space={},
        settings={},
    )
    lines.append(to_json(first))
    for number in range(trials):
        params, now = space.suggest(study.ask()), time.time()
        lines.append(
            {"event": "trial_asked", "trial": number, "params": params, "settings": {}, "time": now}
        )
        for epoch in range(2, EPOCHS + 1, 2):
            each = {"epoch": epoch, "time": now, "metrics": metrics()}
            lines.append(
                {
                    "event": "epochs_reported",
                    "trial": number,
                    "epochs": [each],
                    "value": each["metrics"][METRICS[1]],
                    "time": now,
                }
            )
        told = {
            "state": "complete",
            "value": metrics()[METRICS[1]],
            "metrics": metrics(),
            "reason": None,
            "folder": f"trials/{number}",
        }
        lines.append(
            {"event": "trial_ended", "trial": number, "attributes": {}, "time": now, **told}
        )
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


class Stopwatch:
    """Counts the seconds in the methods that it is put around; those within one another once."""

    def __init__(self) -> None:
        self.seconds, self.computing, self._inside = 0.0, 0.0, False

    def around(self, owner: Any, *names: str) -> None:
        """Time these methods of an object."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            if self._inside:
                return method(*arguments, **named)
            self._inside, begun, worked = True, time.perf_counter(), time.thread_time()
            try:
                return method(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - begun
                self.computing += time.thread_time() - worked
                self._inside = False

        return run


SAMPLER = (
    "before_trial",
    "infer_relative_search_space",
    "sample_relative",
    "sample_independent",
    "after_trial",
)


@contextmanager
def untrained(watch: Stopwatch) -> Iterator[None]:
    """Have trials train nothing, and the samplers timed."""
    before = one.advance, one.finish, factory.make_sampler

    def sampler(*arguments: Any) -> optuna.samplers.BaseSampler:
        made = before[2](*arguments)
        watch.around(made, *SAMPLER)
        return made

    one.advance, one.finish, factory.make_sampler = advance, finish, sampler
    try:
        yield
    finally:
        one.advance, one.finish, factory.make_sampler = before


def run_trial(loop: TrialLoop, number: int) -> None:
    """Ask for one trial and run it to its end."""
    loop._start(*loop.study.ask(number))
    while number in loop.running:
        loop._receive()


def ours(
    words: list[str], context: TrainingContext, trials: int, dir: Path
) -> tuple[float, float, float]:
    """Return milliseconds a trial beside the sampler, how many of them the processor computed, and
    those of the sampler.
    """
    config, watch = compose(words), Stopwatch()
    space = build_space(config, words, parse(words))
    path = dir / f"{config.sampler['name']}{trials}" / "journal.jsonl"
    filled(path, config, space, trials)
    spent, computed, sampled = [], [], []
    with Journal(path) as journal, untrained(watch):
        trainer = ImageTrainer(context)
        study = Study(config, space, journal, trainer, executor=InProcess(trainer))
        loop = TrialLoop(study, TrainTrial())
        run_trial(loop, trials)  # what is imported and composed once
        for number in range(trials + 1, trials + 1 + TIMED):
            watch.seconds, watch.computing, begun, worked = (
                0.0,
                0.0,
                time.perf_counter(),
                time.thread_time(),
            )
            run_trial(loop, number)
            spent.append(time.perf_counter() - begun - watch.seconds)
            computed.append(time.thread_time() - worked - watch.computing)
            sampled.append(watch.seconds)
    return (
        1e3 * statistics.median(spent),
        1e3 * statistics.median(computed),
        1e3 * statistics.median(sampled),
    )


def by_hand(words: list[str], dir: Path) -> float:
    """Return milliseconds a trial of the same bookkeeping with the libraries alone, the sampler
    taken off.
    """
    import mlflow

    config, watch = compose(words), Stopwatch()
    space = build_space(config, words, parse(words))
    mlflow.set_tracking_uri(f"sqlite:///{dir}/hand.db")
    mlflow.set_experiment("hand")
    sampler = optuna.samplers.RandomSampler(seed=0)
    watch.around(sampler, *SAMPLER)
    study = optuna.create_study(storage=f"sqlite:///{dir}/study.db", sampler=sampler)
    spent = []
    for _ in range(BY_HAND):
        watch.seconds, begun = 0.0, time.perf_counter()
        trial = study.ask()
        with mlflow.start_run():
            mlflow.log_params(space.suggest(trial))
            for epoch in range(1, EPOCHS + 1):
                found = metrics()
                mlflow.log_metrics(found, step=epoch)
                if epoch % 2 == 0:
                    trial.report(found[METRICS[1]], epoch)
                    trial.should_prune()
            mlflow.log_metrics(metrics())
        study.tell(trial, metrics()[METRICS[1]])
        spent.append((time.perf_counter() - begun - watch.seconds) * 1e3)
    return statistics.median(spent)


def main() -> None:
    """Measure and print."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory(dir=".") as name:
        dir = Path(name)
        line = [
            "+sweep=smoothing",
            "pruner=none",
            f"train.epochs={EPOCHS}",
            "train.batch_per_replica=8",
            f"dir={dir}",
            *TINY,
        ]
        context = TrainingContext(start(), dir / "cache", lambda what, done, total: None)
        context.get_shared(compose(line))
        hand = by_hand(line, dir)
        print(f"by hand, Optuna on SQLite and MLflow: {hand:.1f} ms a trial", flush=True)
        for sampler in ("random", "tpe"):
            for trials in AT:
                rest, computed, sampled = ours([*line, f"sampler={sampler}"], context, trials, dir)
                told = (
                    f"{sampler}, trial {trials}: {rest:.1f} ms ({computed:.1f} of them on the "
                    "processor, the rest waiting for the disk)"
                )
                print(
                    f"{told} beside the sampler's {sampled:.1f}; 1/{hand / rest:.0f} of by hand",
                    flush=True,
                )


if __name__ == "__main__":
    main()
