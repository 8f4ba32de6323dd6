"""How fast is a backbone's forward pass on this machine's CPU, against the same network in
TensorFlow?

    python bench/features.py [rounds]

EfficientNet-Lite0, batch 64, float32, random weights, at 96 and 192 px. Ours is
`Classifier.features` as the platform runs it: JAX, jitted, weights as arguments. The peer is the
same plain Keras network through KERAS_BACKEND=tensorflow in a `tf.function`, which uses oneDNN and
all cores; it takes the batch whole, where ours goes through in slices that fit the cache. Each has
a process of its own that lives through a size; they take turns, a short burst each, since the speed
of a shared machine drifts. One round's ratio compares two neighbouring bursts. Read the last
column: the median ratio of the rounds, ours by TensorFlow's (more than 1: we are faster), and in
brackets the quartiles, which say how far to trust it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BATCH, BURST, SIZES = 64, 4, (96, 192)
ROUNDS = 9


def main(rounds: int) -> None:
    print(
        f"EfficientNet-Lite0, batch {BATCH}, float32, {len(os.sched_getaffinity(0))} cores, "
        f"{rounds} rounds: images/s, median"
    )
    print(f"{'size':>8} {'flowersweep':>12} {'TensorFlow':>12}   ratio (quartiles)")
    for size in SIZES:
        with worker("jax", size) as ours, worker("tensorflow", size) as theirs:
            pairs = [
                (burst(ours), burst(theirs)) if turn % 2 else (burst(theirs), burst(ours))[::-1]
                for turn in range(rounds)
            ]
        low, middle, high = statistics.quantiles([mine / peer for mine, peer in pairs], n=4)
        mine, peer = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"{size:>5} px {mine:>12.0f} {peer:>12.0f}   {middle:.2f} ({low:.2f} to {high:.2f})",
            flush=True,
        )


@contextmanager
def worker(backend: str, size: int) -> Iterator[subprocess.Popen[str]]:
    """Start this file as a process that measures one burst for each line it reads."""
    root = Path(__file__).parents[1]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": path,
    }
    command = [sys.executable, __file__, "--worker", str(size)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        burst(process)  # compiles and warms up
        yield process
        assert process.stdin
        process.stdin.close()


def burst(process: subprocess.Popen[str]) -> float:
    """Ask a worker for images/s over one burst."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def work(size: int) -> None:
    import numpy as np

    images = np.random.default_rng(0).uniform(0, 255, (BATCH, size, size, 3)).astype("float32")
    run = (
        jax_forward(size, images)
        if os.environ["KERAS_BACKEND"] == "jax"
        else tensorflow_forward(size, images)
    )
    for _ in range(3):
        run()
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(BURST):
            run()
        print(BURST * BATCH / (time.perf_counter() - start), flush=True)


def classifier(size: int, *, lower: bool) -> Any:
    from flowersweep.config.schema import Model
    from flowersweep.models.classifier import build

    config = Model(
        "lite0",
        {"_target_": "efficientnet_lite0"},
        {"_target_": "efficientnet_lite"},
        weights="none",
    )
    return build(config, image_size=(size, size), classes=104, lower=lower, finetune=False)


def jax_forward(size: int, images: Any) -> Callable[[], Any]:
    import jax

    features = classifier(size, lower=True).features
    weights = [
        [v.value for v in part]
        for part in (features.trainable_variables, features.non_trainable_variables)
    ]
    forward = jax.jit(
        lambda trainable, rest, batch: features.stateless_call(
            trainable, rest, batch, training=False
        )[0]
    )
    batch = jax.device_put(images)
    return lambda: jax.block_until_ready(forward(*weights, batch))


def tensorflow_forward(size: int, images: Any) -> Callable[[], Any]:
    import tensorflow as tf

    backbone = classifier(size, lower=False).backbone
    forward = tf.function(lambda batch: backbone(batch, training=False))
    batch = tf.constant(images)
    return lambda: forward(batch).numpy()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(int(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
