"""What a head trial takes on 50,000 images of 1000 classes, beside scikit-learn on the same arrays.

    python bench/head.py [images=50000] [classes=1000] [width=1280] [steps=20]

The features are drawn: a mean for each class, and noise, brought to the length that this package
gives them. Ours trains and scores a head as a trial does, with the default settings. scikit-learn
fits a logistic regression by at most so many steps of L-BFGS, with a penalty of the baseline that
the report shows. It prints seconds, the largest memory so far, and macro F1 on images that neither
has seen.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from flowersweep.config.compose import compose
from flowersweep.data.dataset import Dataset, Split
from flowersweep.runtime import start
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext

LENGTH, SIGNAL, PENALTY = 20.0, 0.16, 1e-3


def draw(rng: np.random.Generator, means: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, D) and labels (n,) of as many images of each class."""
    labels = rng.permutation(np.arange(images, dtype=np.int32) % len(means))
    rows = SIGNAL * means[labels] + rng.standard_normal((images, means.shape[1]), np.float32)
    return LENGTH * rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


class Arrays(TrainingContext):
    """A context whose features and labels are given."""

    def __init__(self, parts: dict[str, tuple[np.ndarray, np.ndarray]], classes: int) -> None:
        cache = Path("mlruns/cache")
        super().__init__(start(cache / "compiled"), cache, lambda *_: None)
        self.rows = {name: rows for name, (rows, _) in parts.items()}
        splits = {
            name: Split(name, (), labels, labels.astype(str)) for name, (_, labels) in parts.items()
        }
        names = tuple(f"class {number}" for number in range(classes))
        halves = np.arange(len(splits["val"])).reshape(2, -1)
        self.only = Dataset("drawn", "", names, (1, 1), "0" * 16, splits, halves[0], halves[1])
        width = parts["train"][0].shape[1]
        self.network: Any = SimpleNamespace(widths=(width,), pretrained="drawn", members=())

    def dataset(self, data: object) -> Dataset:
        return self.only

    def classifier(self, config: object) -> Any:
        return self.network

    def _features(self, dataset: object, classifier: object) -> dict[str, np.ndarray]:
        return self.rows


def memory() -> str:
    """Return the most memory that this process has had."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB"


def main(images: int, classes: int, width: int, steps: int) -> None:
    """Train both, and print what they take and reach."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((classes, width), np.float32)
    parts = {"train": draw(rng, means, images), "val": draw(rng, means, images // 5)}
    print(f"{images} images of {classes} classes, {width} features: {memory()}", flush=True)
    context = Arrays(parts, classes)
    config = replace(compose(["data=synthetic"]).experiment, seed=0)
    holdout = context.only.holdout
    truth = parts["val"][1][holdout]
    for _ in range(2):
        begin = time.monotonic()
        trained, _ = trial.advance(config, Checkpoint(), config.train.all_epochs, context)
        logits = trial.finish(config, trained, context).logits["holdout"]
        f1 = f1_score(truth, logits.argmax(axis=1), average="macro")
        print(
            f"ours, {config.train.epochs} epochs: {time.monotonic() - begin:.1f} s, {memory()}, "
            f"macro F1 {f1:.4f}",
            flush=True,
        )
        config = replace(config, train=replace(config.train, epochs=2))
    begin, (rows, labels) = time.monotonic(), parts["train"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not to the last digit
        model = LogisticRegression(C=1 / (PENALTY * len(labels)), max_iter=steps, tol=1e-5)
        given = model.fit(rows, labels).predict(parts["val"][0][holdout])
    f1 = f1_score(truth, given, average="macro")
    print(
        f"scikit-learn, {model.n_iter_[0]} steps: {time.monotonic() - begin:.1f} s, {memory()}, "
        f"macro F1 {f1:.4f}"
    )


if __name__ == "__main__":
    options = {"images": 50_000, "classes": 1000, "width": 1280, "steps": 20}
    options |= {key: int(value) for key, value in (word.split("=") for word in sys.argv[1:])}
    main(**options)
