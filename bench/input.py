"""How fast do training images reach the training, against the bare decoder on the same files?

    python bench/input.py [DIR] [rounds]

Ours are the `shuffled` batches that fine-tuning takes, as NumPy arrays: cold, when every file is
read and every image decoded, and again when the decoded images are kept. The peer is tf.data by
itself: TFRecordDataset, parse, `tf.io.decode_jpeg` in a parallel map (AUTOTUNE), batch, prefetch;
in file order, nothing shuffled. DIR holds TFRecords, or JPEGs in folders of classes, of which the
peer reads each by `tf.io.read_file`, and resizes it where sizes differ. They take turns in one
process, an epoch each, since machines are noisy. Without a folder it takes generated flowers. Read
the ratios, ours by the peer's (more than 1: we are faster), with their quartiles. The goal: cold at
least .8.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from flowersweep.config.compose import compose
from flowersweep.data import pipeline
from flowersweep.data.dataset import Split, open_dataset
from flowersweep.data.decoded import NOTHING, ImageCacheLimits
from flowersweep.data.readers import FileReader

BATCH, ROUNDS = 128, 9


def main(words: list[str], rounds: int) -> None:
    """Measure all three in turn and print the median ratios."""
    dataset = open_dataset(compose(words).data, Path("mlruns/cache"))
    split, size = dataset.splits["train"], dataset.image_size
    shape = f"{size[0]}x{size[1]}"
    print(f"{len(split)} images of {shape}, batches of {BATCH}, {rounds} rounds: images/s, median")
    warm = replace(split, budget=ImageCacheLimits(memory=len(split) * size[0] * size[1] * 3))
    sides: dict[str, Callable[[int], Iterator[Any]]] = {
        "peer": lambda turn: bare(split, size),
        "cold": lambda turn: cold(replace(split, budget=NOTHING), size, turn),
        "kept": lambda turn: pipeline.shuffled(warm, size, BATCH, seed=0, epoch=turn),
    }
    for epoch in range(2):  # warms up, and decodes what is kept
        for side in sides.values():
            images_a_second(side, epoch)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            found[name].append(images_a_second(sides[name], turn))
    print(f"tf.data {statistics.median(found['peer']):.0f}")
    for name in ("cold", "kept"):
        low, middle, high = statistics.quantiles(
            [mine / peer for mine, peer in zip(found[name], found["peer"], strict=True)], n=4
        )
        print(
            f"{name} {statistics.median(found[name]):.0f}, ratio {middle:.2f} ({low:.2f} to "
            f"{high:.2f})"
        )


def images_a_second(side: Callable[[int], Iterator[Any]], turn: int) -> float:
    """Take one epoch of batches, or as much as is one for us: whole batches."""
    begun, images = time.perf_counter(), 0
    for batch in side(turn):
        images += len(batch[0])
    return images / (time.perf_counter() - begun)


def cold(split: Split, size: tuple[int, int], turn: int) -> Iterator[Any]:
    """Our batches of an epoch that nothing is left over for."""
    pipeline._held.cache_clear()
    return pipeline.shuffled(split, size, BATCH, seed=0, epoch=turn)


def bare(split: Split, size: tuple[int, int]) -> Iterator[Any]:
    """What a loop written with tf.data alone would read: uint8 images and labels."""

    def decoded(path: Any, label: Any) -> Any:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        if mixed:
            image = tf.cast(tf.round(tf.image.resize(image, size, antialias=True)), tf.uint8)
        return image, label

    def parsed(raw: Any) -> Any:
        features = {
            "image": tf.io.FixedLenFeature([], tf.string),
            "class": tf.io.FixedLenFeature([], tf.int64),
        }
        record = tf.io.parse_single_example(raw, features)
        return tf.io.decode_jpeg(record["image"], channels=3), record["class"]

    if isinstance(split.reader, FileReader):
        heads = (tf.io.extract_jpeg_shape(tf.io.read_file(file)) for file in split.files[:9])
        mixed = {tuple(head[:2].numpy().tolist()) for head in heads} != {size}
        records = tf.data.Dataset.from_tensor_slices((list(split.files), split.labels)).map(
            decoded, num_parallel_calls=tf.data.AUTOTUNE
        )
    else:
        records = tf.data.TFRecordDataset(list(split.files)).map(
            parsed, num_parallel_calls=tf.data.AUTOTUNE
        )
    batches: Iterator[Any] = (
        records.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
    )
    return batches


if __name__ == "__main__":
    folder = [word for word in sys.argv[1:] if not word.isdigit()]
    drawn = (
        "data.fetch={_target_: synthetic, classes: 20, train: 64, val: 1, test: 0, image_size: 192}"
    )
    kind = "tfrecords" if folder and list(Path(folder[0]).glob("train/*.tfrec")) else "folder"
    given = [int(word) for word in sys.argv[1:] if word.isdigit()]
    main(
        [f"data={kind}", f"data.dir={folder[0]}"] if folder else [drawn],
        given[0] if given else ROUNDS,
    )
