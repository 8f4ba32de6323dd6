"""What looking at a study and going on with it costs, as it grows from 100 trials to 10,000; beside
Optuna on SQLite and MLflow.

    python bench/scale.py [TRIALS ...]

The journal is written by the journal's own writer, with made-up numbers: ten epochs a trial in five
reports, a fifth pruned, some failed, some that take an earlier result, and the logits of the best.
Each measurement is a process of its own: the processor's seconds without imports, and the memory
that it took beyond them. Peers over as many trials: `optuna.load_study` and its best trial;
`mlflow.search_runs`. The goal: seconds at 10,000, and no faster growth than the trials'.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (100, 1000, 10_000)
EPOCHS, SEGMENT, KEPT = 10, 2, 20
CLASSES, IMAGES = 104, 1856  # of each half of val
WORDS = [
    "+sweep=smoothing",
    "sampler=random",
    "progress=false",
    f"train.epochs={EPOCHS}",
    "train.batch_per_replica=8",
    "data.fetch={_target_: synthetic, classes: 5, train: 8, val: 6, test: 2, image_size: 32}",
    "model={name: tiny, backbone: {_target_: tiny_backbone}, weights: none}",
]
OBJECTIVE = "tune/calibrated_nll"
chance = np.random.default_rng(0)


def scores(value: float) -> dict[str, float]:
    """Made-up metrics of one epoch."""
    rest = dict(
        zip(
            ("train/loss", "tune/nll", "tune/accuracy", "tune/macro_f1"),
            chance.uniform(0.1, 1, 4).tolist(),
            strict=True,
        )
    )
    return {OBJECTIVE: value, **rest}


def filled(dir: Path, trials: int) -> Path:
    """Write the study of so many trials below ``dir`` and return its folder."""
    import optuna

    from flowersweep.config.compose import compose, parse
    from flowersweep.config.paths import flatten
    from flowersweep.space.space import build_space
    from flowersweep.study import journal as journals

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    words = [*WORDS, f"dir={dir}", "study=scale"]
    config, folder = compose(words), dir / "studies" / "scale"
    space, study = (
        build_space(config, words, parse(words)),
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)),
    )
    sync, os.fsync = os.fsync, lambda _: None  # what is measured later is reading
    try:
        with journals.Journal(folder / "journal.jsonl") as journal:
            sweep = {"sweep": {"n_trials": trials, "objective": OBJECTIVE, "objectives": []}}
            data = {
                "name": "flowers",
                "digest": "d" * 64,
                "classes": [f"class {n}" for n in range(CLASSES)],
                "counts": {},
            }
            facts = {
                "experiment": "scale",
                "seed": 0,
                "objective": OBJECTIVE,
                "direction": "minimize",
                "space": space.describe(),
            }
            origin = {"command": "python -m flowersweep +sweep=smoothing", "data": data}
            append(
                journal,
                "study_started",
                study="scale",
                config=sweep,
                overrides=words,
                settings=dict(flatten(sweep)),
                provenance=origin,
                **facts,
            )
            ended = [trial(journal, number, space.suggest(study.ask())) for number in range(trials)]
    finally:
        os.fsync = sync
    for number in sorted(range(trials), key=lambda number: ended[number])[:KEPT]:
        keep(folder / "trials" / str(number))
    return folder


def append(journal: Any, kind: str, **content: Any) -> None:
    """Journal an event."""
    from flowersweep.study.events import from_json

    journal.append(from_json({"event": kind, **content}))


def trial(journal: Any, number: int, params: dict[str, Any]) -> float:
    """Journal one trial as a study does; return its value, if it is complete."""
    kind = number % 10
    state = "pruned" if kind in (3, 7) else "failed" if number % 100 == 99 else "complete"
    reused = {"repeats": 0} if number and kind == 5 else {}
    end = 0.1 + float(chance.gamma(4, 0.2))
    settings = {f"loss.{name}": value for name, value in params.items()}
    append(
        journal,
        "trial_asked",
        trial=number,
        params=params,
        settings=settings,
        identity=f"{number:016x}",
        **reused,
    )
    for until in range(SEGMENT, 0 if reused else (5 if state == "pruned" else EPOCHS + 1), SEGMENT):
        rows = [
            {"epoch": e, "time": time.time(), "metrics": scores(end + 1 / e)}
            for e in range(until - SEGMENT + 1, until + 1)
        ]
        append(
            journal,
            "epochs_reported",
            trial=number,
            epochs=rows,
            value=rows[-1]["metrics"][OBJECTIVE],
        )
    value = None if state == "failed" else end
    told = (
        {**scores(end), "holdout/macro_f1": float(chance.uniform())} if state == "complete" else {}
    )
    reason = "train/loss is nan after epoch 2" if state == "failed" else None
    append(
        journal,
        "trial_ended",
        trial=number,
        state=state,
        value=value,
        metrics=told,
        reason=reason,
        folder=f"trials/{number}",
        attributes={},
    )
    return end if state == "complete" else float("inf")


def keep(folder: Path) -> None:
    """Write the logits of one of the best trials."""
    folder.mkdir(parents=True)
    labels = chance.integers(CLASSES, size=IMAGES).astype(np.int32)
    logits = chance.standard_normal((IMAGES, CLASSES)).astype(np.float16)
    np.savez(
        folder / "logits.npz",
        tune=logits,
        holdout=logits,
        tune_labels=labels,
        holdout_labels=labels,
    )


def status(dir: Path) -> Callable[[], Any]:
    """`status study=scale`."""
    from flowersweep.report.status import screen, status

    return lambda: print(screen(status(dir / "studies" / "scale")))


def report(dir: Path) -> Callable[[], Any]:
    """`report study=scale`; what it returns are the page's bytes."""
    import optuna.importance  # noqa: F401

    from flowersweep.report import write_report

    return lambda: write_report([dir / "studies" / "scale"], dir / "report.html").stat().st_size


def resume(dir: Path) -> Callable[[], Any]:
    """From the same command to the suggestion of the next trial."""
    from flowersweep.config.compose import compose, parse
    from flowersweep.execution.in_process import InProcess
    from flowersweep.runtime import start
    from flowersweep.search import optuna_study
    from flowersweep.search.state import Study
    from flowersweep.space.space import build_space
    from flowersweep.study.journal import Journal
    from flowersweep.training.context import TrainingContext
    from flowersweep.training.image_trainer import ImageTrainer

    words = [*WORDS, f"dir={dir}", "study=scale"]
    config = compose(words)
    space, context = (
        build_space(config, words, parse(words)),
        TrainingContext(start(), dir / "cache", lambda what, done, total: None),
    )

    def run() -> None:
        with Journal(dir / "studies" / "scale" / "journal.jsonl") as journal:
            trainer = ImageTrainer(context)
            study = Study(config, space, journal, trainer, executor=InProcess(trainer))
            optuna_study.ask_trial(study.optuna, len(study.trials), space=space, config=config)

    return run


def shipper(dir: Path) -> Callable[[], Any]:
    """What the shipper, or `sync`, does before it ships the first new event, if all others are in
    the store.
    """
    from flowersweep.config.schema import Tracking
    from flowersweep.tracking import store
    from flowersweep.tracking.mlflow_sink import MlflowSink

    store.client(Tracking(), dir)  # what is imported, and a database that is opened
    return MlflowSink(dir / "studies" / "scale" / "journal.jsonl", Tracking(), dir).step


def optuna_best(dir: Path) -> Callable[[], Any]:
    """`optuna.load_study` on SQLite, and its best trial."""
    import optuna

    return lambda: (
        optuna.load_study(study_name="scale", storage=f"sqlite:///{dir}/optuna.db").best_trial.value
        and None
    )


def mlflow_table(dir: Path) -> Callable[[], Any]:
    """A table of all runs of an MLflow experiment on SQLite, as `mlflow.search_runs` gives it."""
    from flowersweep.tracking import store

    store.quiet()
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{dir}/mlflow.db")
    return lambda: len(mlflow.search_runs(experiment_names=["peer"], max_results=50_000)) and None


OURS, PEERS = (status, report, resume, shipper), (optuna_best, mlflow_table)
MEASURED = {each.__name__: each for each in (*OURS, *PEERS)}


def shipped(dir: Path) -> None:
    """Put the study's own run into a store, and say that all of the journal is there: shipping
    10,000 trials would take minutes.
    """
    from flowersweep.config.schema import Tracking
    from flowersweep.study.journal import read_events
    from flowersweep.tracking import cursor, runs, store
    from flowersweep.tracking.projection import MlflowProjection

    journal, fold, client = (
        dir / "studies" / "scale" / "journal.jsonl",
        MlflowProjection(),
        store.client(Tracking(), dir),
    )
    events, _ = read_events(journal, most=1)
    [change] = fold.add(events)
    run = runs.create(client, store.experiment(client, "scale", dir), change, fold.study, None)
    reached = cursor.Cursor(
        store.address(Tracking(), dir), fold.study.time, journal.stat().st_size, {None: run}
    )
    reached.write(journal.with_name("shipped.json"), ())


def peers(dir: Path) -> None:
    """Put trials and runs of the same parameters, reports and metrics where the peers keep them."""
    import optuna
    from mlflow.entities import Metric, Param
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from flowersweep.config.schema import Tracking
    from flowersweep.report.study_view import load_study
    from flowersweep.search.optuna_study import STATES
    from flowersweep.tracking import store

    # what is measured is reading
    event.listen(
        Engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF")
    )
    found, client = load_study(dir / "studies" / "scale"), store.client(Tracking(), dir)
    kept = optuna.create_study(study_name="scale", storage=f"sqlite:///{dir}/optuna.db")
    experiment = client.create_experiment("peer")
    for record in found.records:
        distributions = {
            p.name: p.distribution for p in found.parameters if p.name in record.params
        }
        known = {
            "params": record.params,
            "distributions": distributions,
            "intermediate_values": record.reports,
        }
        kept.add_trial(
            optuna.trial.create_trial(state=STATES[record.state], value=record.value, **known)
        )
        run = client.create_run(experiment).info.run_id
        metrics = [Metric(name, value, 0, EPOCHS) for name, value in record.metrics.items()]
        client.log_batch(
            run, metrics, [Param(name, str(value)) for name, value in record.params.items()]
        )


def peak() -> float:
    """The most megabytes that this process has held; `getrusage` counts what its parent held
    before.
    """
    return float(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def measured(what: str, dir: Path) -> dict[str, float]:
    """Measure one thing in a process of its own."""
    run = subprocess.run(
        [sys.executable, __file__, what, str(dir)], check=True, capture_output=True, text=True
    )
    return dict(json.loads(run.stdout.splitlines()[-1]))


def measure(what: str, dir: Path) -> None:
    """Do one thing and print the processor's seconds and the megabytes it took."""
    run = MEASURED[what](dir)
    before, begun = peak(), time.process_time()
    gave = run()
    seconds = time.process_time() - begun
    print(json.dumps({"seconds": seconds, "megabytes": peak() - before, "bytes": gave or 0}))


def main(sizes: Sequence[int]) -> None:
    """Measure and print, size by size."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=".") as name:
        for trials in sizes:
            dir = Path(name).resolve() / str(trials)
            filled(dir, trials)
            shipped(dir)
            peers(dir)
            for each in (*OURS, *PEERS):
                what, before = each.__name__, found.get((each.__name__, trials // 10))
                found[what, trials] = told = measured(what, dir)
                grown = (
                    f", {told['seconds'] / before['seconds']:.1f} times that of {trials // 10}"
                    if before
                    else ""
                )
                page = f", {told['bytes'] / 1e6:.1f} MB written" if told["bytes"] else ""
                print(
                    (
                        f"{trials} trials, {what}: {told['seconds']:.2f} s{grown}, "
                        f"{told['megabytes']:.0f} MB of memory{page}"
                    ),
                    flush=True,
                )


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in MEASURED:
        measure(sys.argv[1], Path(sys.argv[2]))
    else:
        main([*map(int, sys.argv[1:])] or SIZES)
