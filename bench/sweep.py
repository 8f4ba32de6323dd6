"""What a head trial costs here, and in the same loop written by hand with Optuna (SQLite),
`keras.Model.fit` and MLflow.

    python bench/sweep.py [TFRECORDS_DIR]

Both train the same head (dropout, one dense layer) on the same cached features with the same batch,
epochs, optimizer and losses, score the same half of val after every epoch and keep everything in
MLflow on SQLite. Ours runs twice, one trial after the other and two beside each other
(executor=threads). They take turns in rounds, since machines are noisy. Time a trial is wall-clock
from the first trial to the last metric in MLflow, compiling included, over the number of trials;
features are there before. By hand comes in two kinds: the short loop that one writes, and one that
leaves what ours leaves of a trial (calibrated NLL and macro F1 of every epoch, logits, tables of
classes). Without a folder it takes generated flowers. The goal: at most 1/8.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from sklearn.metrics import classification_report, confusion_matrix, f1_score

from flowersweep.config.compose import compose
from flowersweep.evaluation.calibration import calibrated_nll
from flowersweep.runtime import start
from flowersweep.tracking.store import client
from flowersweep.training.context import TrainingContext
from flowersweep.workflows import sweep

TRIALS, EPOCHS, ROUNDS = 20, 10, 3
CACHE = Path("mlruns/cache")
WAYS = {"one after the other": [], "two beside each other": ["executor=threads", "sweep.workers=2"]}


def words(dir: str, name: str, data: list[str]) -> list[str]:
    """The command line of our side: nothing is pruned, so that both sides train the same number of
    epochs.
    """
    return [
        "+sweep=smoothing",
        "pruner=none",
        f"sweep.n_trials={TRIALS}",
        f"train.epochs={EPOCHS}",
        f"study={name}",
        f"dir={dir}",
        *data,
    ]


def ours(line: list[str]) -> float:
    """Seconds a trial of a sweep."""
    marks, shipped = list[float](), list[float]()
    config = compose(line)
    # MLflow imported and its database made, as on the other side
    client(config.tracking, Path(config.dir))
    log_best = sweep.log_best

    def timed(*values: Any) -> None:  # everything is in MLflow now; the other side keeps no model
        shipped.append(time.perf_counter())
        log_best(*values)

    sweep.log_best = timed
    try:
        sweep.run_sweep(config, line, watch=lambda study, record: marks.append(time.perf_counter()))
    finally:
        sweep.log_best = log_best
    return (shipped[0] - marks[0]) / TRIALS


def by_hand(
    dir: str,
    features: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    classes: int,
    *,
    whole: bool,
) -> float:
    """Seconds a trial of the same loop, written with the libraries alone; ``whole``: it leaves what
    ours does.
    """
    import keras  # after flowersweep has chosen its backend
    import mlflow

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(f"sqlite:///{dir}/hand{whole:d}.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("hand", f"{dir}/artifacts"))
    onehot = {part: keras.utils.to_categorical(labels[part], classes) for part in labels}

    class EachEpoch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            found = {name: float(value) for name, value in (logs or {}).items()}
            if whole:
                logits = self.model.predict(features["tune"], verbose=0)
                found["calibrated_nll"] = calibrated_nll(logits, labels["tune"])
                found["macro_f1"] = float(
                    f1_score(labels["tune"], logits.argmax(axis=1), average="macro")
                )
            mlflow.log_metrics(found, step=epoch)

    def objective(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("loss", ["smoothed", "focal"]) == "smoothed":
            loss = keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=trial.suggest_float("label_smoothing", 0, 0.3)
            )
        else:
            loss = keras.losses.CategoricalFocalCrossentropy(
                from_logits=True, gamma=trial.suggest_float("gamma", 0.5, 5)
            )
        steps = len(features["train"]) // 128 * EPOCHS
        rate = trial.suggest_float("learning_rate", 5e-4, 5e-2, log=True)
        warmup = int(steps * trial.suggest_float("warmup", 0, 0.25))
        schedule = keras.optimizers.schedules.CosineDecay(
            0.025 * rate, max(steps - warmup, 1), warmup_target=rate, warmup_steps=warmup
        )
        inputs = keras.Input((features["train"].shape[1],))
        model = keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Dropout(0.2)(inputs)))
        model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"])
        with mlflow.start_run():
            mlflow.log_params(trial.params)
            fit = {
                "batch_size": 128,
                "epochs": EPOCHS,
                "validation_data": (features["tune"], onehot["tune"]),
                "verbose": 0,
            }
            model.fit(features["train"], onehot["train"], callbacks=[EachEpoch()], **fit)
            logits = {
                part: model.predict(features[part], verbose=0)
                for part in ("tune", "holdout", "test")[: 2 + whole]
            }
            scores = {part: logits[part].argmax(axis=1) for part in ("tune", "holdout")}
            final = {
                f"{part}/macro_f1": f1_score(labels[part], scores[part], average="macro")
                for part in scores
            }
            mlflow.log_metrics(final)
            if whole:
                left = Path(dir) / "left"
                left.mkdir(exist_ok=True)
                np.savez(
                    left / "logits.npz",
                    **{part: each.astype(np.float16) for part, each in logits.items()},
                )
                for part, predicted in scores.items():
                    np.savetxt(
                        left / f"confusion_{part}.csv",
                        confusion_matrix(labels[part], predicted),
                        "%d",
                        ",",
                    )
                    report = classification_report(
                        labels[part], predicted, output_dict=True, zero_division=0
                    )
                    (left / f"per_class_{part}.json").write_text(json.dumps(report))
                mlflow.log_artifacts(str(left))
        return float(final["tune/macro_f1"])

    study = optuna.create_study(storage=f"sqlite:///{dir}/study.db", direction="maximize")
    before = time.perf_counter()
    study.optimize(objective, n_trials=TRIALS)
    return (time.perf_counter() - before) / TRIALS


def main() -> None:
    """Measure both in turn and print the ratio of each round."""
    data = ["data=tfrecords", f"data.dir={sys.argv[1]}"] if len(sys.argv) > 1 else []
    config = compose(words("mlruns", "bench", data))
    context = TrainingContext(start(CACHE / "compiled"), CACHE, lambda what, done, total: None)
    shared = context.get_shared(config)  # the features, for both
    dataset = shared.dataset
    val, train = dataset.splits["val"].labels, dataset.splits["train"].labels
    assert val is not None
    assert train is not None
    features = {"train": np.asarray(shared.train[0]), **shared.features}
    labels = {"train": train, "tune": val[dataset.tune], "holdout": val[dataset.holdout]}
    print(
        f"{len(train)} images, {features['train'].shape[1]} features, {len(dataset.classes)} "
        f"classes; {TRIALS} trials, {EPOCHS} epochs"
    )
    hands = {"by hand": False, "by hand, leaving the same": True}
    ratios: dict[tuple[str, str], list[float]] = {(way, hand): [] for hand in hands for way in WAYS}
    for turn in range(ROUNDS):
        with tempfile.TemporaryDirectory() as dir:
            (Path(dir) / "cache").symlink_to(CACHE.resolve())
            took = {
                hand: by_hand(dir, features, labels, len(dataset.classes), whole=whole)
                for hand, whole in hands.items()
            }
            took |= {
                way: ours(words(dir, f"bench{len(more)}", [*data, *more]))
                for way, more in WAYS.items()
            }
        print(
            f"round {turn + 1}, seconds a trial: "
            + "; ".join(f"{name} {seconds:.3f}" for name, seconds in took.items()),
            flush=True,
        )
        for way, hand in ratios:
            ratios[way, hand].append(took[hand] / took[way])
    for (way, hand), found in ratios.items():
        middle, least, most = statistics.median(found), min(found), max(found)
        print(
            f"{way} / {hand}, median of {ROUNDS} rounds: 1/{middle:.1f} (from 1/{least:.1f} "
            f"to 1/{most:.1f})"
        )


if __name__ == "__main__":
    main()
