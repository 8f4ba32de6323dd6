"""What `auto` makes of some minutes, beside what scikit-learn and a plain KerasTuner loop make.

    python bench/auto.py [minutes=10] [networks=3] [classes=0] [WORDS that name the images]

A quarter of all labelled images, by chance within each class, is laid aside: nobody sees its
labels. The rest is written as a folder of train/ and val/, of which everybody may use all. Then,
one after the other, with the same minutes:

- ours: `python -m flowersweep auto`, then `predict`, as a user types them;
- scikit-learn: the features of the same networks, of the image and its mirror image, at equal
  length; a logistic regression on each, of which val chooses the strength among nine; fitted again
  on train and val; the mean of their probabilities. The time of the features counts;
- KerasTuner: its random search over rate, dropout and smoothing of a head on the smallest network,
  which is frozen; images by `keras.utils.image_dataset_from_directory`, early stopping on val.

It prints accuracy and macro F1 on the images laid aside, and the paired difference of ours from
each with its interval (bootstrap over images). Without words it takes generated flowers, and with
classes=20 the first twenty classes alone.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import flowersweep  # noqa: F401 - first: it says which backend Keras has

# isort: split
import keras
import keras_tuner
import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from flowersweep.cli.auto import NETWORKS
from flowersweep.config.compose import compose
from flowersweep.data.dataset import open_dataset
from flowersweep.models import backbones

STRENGTHS = np.logspace(-2, 2, 9)  # C of the logistic regression
LENGTH = 20.0  # of features, as this package scales them
DRAWS = 2000


def labelled_images(
    words: list[str], classes: int
) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """Return the bytes of the images of train and val, their labels, and the classes: the first
    ones, or all for 0.
    """
    dataset = open_dataset(compose(words).data, Path("mlruns/cache"))
    images, labels = [], []
    for name in ("train", "val"):
        split = dataset.splits[name]
        rows = np.concatenate(list(split.reader.batches(split.files).as_numpy_iterator()))
        images += list(rows if split.rows is None else rows[split.rows])
        labels.append(split.labels)
    known = np.concatenate(labels)
    chosen = np.flatnonzero(known < (classes or len(dataset.classes)))
    return [images[row] for row in chosen], known[chosen], dataset.classes[: classes or None]


def lay_out(
    folder: Path, words: list[str], classes: int
) -> tuple[np.ndarray, list[str], tuple[str, ...]]:
    """Write train/, val/ and images/; return labels and names of images/, and the classes."""
    images, labels, names = labelled_images(words, classes)
    rows, hidden = train_test_split(
        np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=0
    )
    train, val = train_test_split(rows, test_size=0.2, stratify=labels[rows], random_state=0)
    for name, chosen in (("train", train), ("val", val)):
        for row in chosen:
            file = folder / name / f"c{labels[row]:04d}" / f"{row}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(images[row])
    (folder / "images").mkdir()
    for row in hidden:
        (folder / "images" / f"{row}.jpg").write_bytes(images[row])
    return labels[hidden], [f"{row}.jpg" for row in hidden], names


def ours(folder: Path, work: Path, names: list[str], minutes: float) -> np.ndarray:
    """Return the labels that the package gives to the images."""
    environment = os.environ | {"MLFLOW_TRACKING_URI": ""}
    command = [sys.executable, "-m", "flowersweep"]
    place = f"dir={work}"
    ended = subprocess.run(
        [
            *command,
            "auto",
            "data=folder",
            f"data.dir={folder}",
            place,
            f"sweep.budget.minutes={minutes}",
        ],
        env=environment,
    )
    alias = {0: "champion", 3: "challenger"}[ended.returncode]
    output = work / "predictions.csv"
    subprocess.run(
        [
            *command,
            "predict",
            f"images={folder / 'images'}",
            f"alias={alias}",
            place,
            f"output={output}",
        ],
        env=environment,
        check=True,
    )
    with output.open(newline="") as file:
        given = {Path(row["file"]).name: int(row["class"][1:]) for row in csv.DictReader(file)}
    return np.array([given[name] for name in names])


def load(files: list[Path], size: int) -> tf.data.Dataset:
    """Return batches of images as every tutorial reads them."""

    def decode(path: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.image.resize(image, (size, size))

    paths = tf.data.Dataset.from_tensor_slices(list(map(str, files)))
    return paths.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(64).prefetch(2)


def features(network: keras.Model, files: list[Path], size: int) -> np.ndarray:
    """Return the mean features of an image and its mirror image, each of the same length."""
    rows = []
    for images in load(files, size):
        pixels = backbones.preprocess(images.numpy())
        views = [network.predict_on_batch(view) for view in (pixels, pixels[:, :, ::-1])]
        rows.append(
            sum(LENGTH * view / np.linalg.norm(view, axis=1, keepdims=True) for view in views) / 2
        )
    return np.concatenate(rows)


def files_of(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Return the files of a split and their labels."""
    files = sorted(folder.glob("*/*.jpg"))
    return files, np.array([int(file.parent.name[1:]) for file in files])


def with_sklearn(folder: Path, names: list[str], minutes: float, networks: int) -> np.ndarray:
    """Return the labels by logistic regressions on the same features."""
    end = time.monotonic() + 60 * minutes
    (train, labels), (val, val_labels) = files_of(folder / "train"), files_of(folder / "val")
    hidden = [folder / "images" / name for name in names]
    total: np.ndarray | float = 0.0
    for network in NETWORKS[:networks]:
        if time.monotonic() > end:
            break
        inputs = (network.size, network.size, 3)
        body = getattr(backbones, network.model)(input_shape=inputs)
        pooled = keras.Model(body.input, keras.layers.GlobalAveragePooling2D()(body.output))
        a, b, c = (features(pooled, files, network.size) for files in (train, val, hidden))
        scores = dict[float, float]()
        for strength in STRENGTHS:
            fitted = LogisticRegression(C=strength, max_iter=300).fit(a, labels)
            scores[strength] = fitted.score(b, val_labels)
            if time.monotonic() > end:
                break
        best = max(scores, key=lambda strength: scores[strength])
        everything = LogisticRegression(C=best, max_iter=300)
        everything.fit(np.concatenate([a, b]), np.concatenate([labels, val_labels]))
        total = total + everything.predict_proba(c)
        print(f"scikit-learn: {network.model}, C={best:.3g}, val {scores[best]:.4f}", flush=True)
    return everything.classes_[np.argmax(total, axis=1)]


class Deadline(keras.callbacks.Callback):
    """Ends the search when the minutes are over."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end = end

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if time.monotonic() > self.end:
            self.model.stop_training = True


def with_keras_tuner(folder: Path, work: Path, names: list[str], minutes: float) -> np.ndarray:
    """Return the labels by the loop that KerasTuner's guide shows."""
    end, size = time.monotonic() + 60 * minutes, NETWORKS[0].size
    splits = {
        name: keras.utils.image_dataset_from_directory(
            folder / name, image_size=(size, size), batch_size=64, label_mode="categorical"
        )
        for name in ("train", "val")
    }
    classes = splits["train"].class_names

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        body = backbones.efficientnet_lite0(input_shape=(size, size, 3))
        body.trainable = False
        images = keras.Input((size, size, 3))
        x = keras.layers.RandomFlip("horizontal")(images)
        x = body(backbones.preprocess(x), training=False)
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dropout(hp.Float("dropout", 0.0, 0.5))(x)
        model = keras.Model(images, keras.layers.Dense(len(classes), activation="softmax")(x))
        model.compile(
            keras.optimizers.Adam(hp.Float("rate", 1e-4, 1e-2, sampling="log")),
            keras.losses.CategoricalCrossentropy(label_smoothing=hp.Float("smoothing", 0.0, 0.2)),
            metrics=["accuracy"],
        )
        return model

    tuner = keras_tuner.RandomSearch(
        build, "val_accuracy", max_trials=1, seed=0, directory=work, project_name="tuner"
    )
    while time.monotonic() < end:  # one more trial, as long as there is time
        tuner.search(
            splits["train"],
            validation_data=splits["val"],
            epochs=20,
            callbacks=[keras.callbacks.EarlyStopping("val_accuracy", patience=3), Deadline(end)],
            verbose=2,
        )
        tuner.oracle.max_trials += 1
    model = tuner.get_best_models()[0]
    output = np.concatenate(
        [
            model.predict_on_batch(images.numpy())
            for images in load([folder / "images" / name for name in names], size)
        ]
    )
    return np.array([int(classes[index][1:]) for index in output.argmax(axis=1)])


def compare(truth: np.ndarray, given: dict[str, np.ndarray]) -> Iterator[str]:
    """Describe each side's scores, and the paired difference of ours from each."""
    rng = np.random.default_rng(0)
    draws = rng.integers(len(truth), size=(DRAWS, len(truth)))
    classes = np.unique(truth)

    def f1(labels: np.ndarray, rows: np.ndarray | slice = slice(None)) -> float:
        return f1_score(truth[rows], labels[rows], labels=classes, average="macro", zero_division=0)

    for name, labels in given.items():
        line = f"{name}: accuracy {np.mean(labels == truth):.4f}, macro F1 {f1(labels):.4f}"
        if name != "ours":
            gaps = [f1(given["ours"], rows) - f1(labels, rows) for rows in draws]
            low, high = np.quantile(gaps, (0.025, 0.975))
            gap = f1(given["ours"]) - f1(labels)
            line += f"; ours {gap:+.4f} ({low:+.4f} to {high:+.4f})"
        yield line


def main(words: list[str], minutes: float, networks: int, classes: int) -> None:
    """Run all three, and print what they reach."""
    with tempfile.TemporaryDirectory() as place:
        folder, work = Path(place) / "images", Path(place) / "work"
        truth, names, known = lay_out(folder, words, classes)
        print(f"{len(truth)} images of {len(known)} classes are laid aside", flush=True)
        sides = {
            "ours": lambda: ours(folder, work, names, minutes),
            "scikit-learn": lambda: with_sklearn(folder, names, minutes, networks),
            "KerasTuner": lambda: with_keras_tuner(folder, work, names, minutes),
        }
        given: dict[str, np.ndarray] = {}
        for name, run in sides.items():
            begin, given[name] = time.monotonic(), run()
            took = f" in {time.monotonic() - begin:.0f} s"
            print([*compare(truth, given)][-1] + took, flush=True)


if __name__ == "__main__":
    own = [word for word in sys.argv[1:] if word.startswith(("minutes=", "networks=", "classes="))]
    options = dict(word.split("=") for word in own)
    main(
        [word for word in sys.argv[1:] if word not in own],
        float(options.get("minutes", 10)),
        int(options.get("networks", 3)),
        int(options.get("classes", 0)),
    )
