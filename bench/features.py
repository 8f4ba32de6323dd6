"""How fast is a frozen backbone's forward pass on this machine's CPU, against the same network in
Keras on TensorFlow?

    python bench/features.py [rounds [network [size]]]

Batches of 64 images, float32, random weights, at 96 and 192 px. Ours is what the platform runs:
OpenVINO, from the program that JAX traced. Beside it run ONNX Runtime (needs the extra `export`)
and JAX with lowered convolutions, which is the way where OpenVINO is missing. The peer is the same
network through KERAS_BACKEND=tensorflow in a `tf.function`, which uses oneDNN and all cores. Each
has a process of its own that lives through a network and a size; they take turns, a short burst
each, since the speed of a shared machine drifts. A round's ratio compares bursts of one round. Read
the ratios: median of the rounds, images per second and processor time by TensorFlow's (more than 1:
faster, fewer seconds), and in brackets the quartiles, which say how far to trust them. The last
column compares the fastest bursts, which a busy machine disturbs least.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

BATCH, BURST, ROUNDS = 64, 1, 15
SIZES = (96, 192)
NETWORKS = {
    "EfficientNet-Lite0": ("efficientnet_lite0", "efficientnet_lite"),
    "DenseNet121": ("keras.applications.DenseNet121", None),
}
PEER = "tensorflow"
RUNNERS = ("openvino", "onnxruntime", "jax", PEER)

Burst = tuple[float, float]  # images per second, processor seconds per image


def main(rounds: int, networks: list[str], sizes: list[int]) -> None:
    cores = len(os.sched_getaffinity(0))
    print(f"batch {BATCH}, float32, {cores} cores, {rounds} rounds; ratios to Keras on TensorFlow")
    print("images/s, ms of processor; ratios of speed, processor time (quartiles), fastest burst")
    for network, size in product(networks, sizes):
        with ExitStack() as stack:
            workers = {name: stack.enter_context(worker(name, network, size)) for name in RUNNERS}
            order = [RUNNERS if turn % 2 else RUNNERS[::-1] for turn in range(rounds)]
            bursts = [{name: burst(workers[name]) for name in names} for names in order]
        fastest = {name: max(each[name][0] for each in bursts) for name in RUNNERS}
        for name in RUNNERS:
            speed, seconds = zip(*(each[name] for each in bursts), strict=True)
            by_peer = [each[name][0] / each[PEER][0] for each in bursts]
            spared = [each[PEER][1] / each[name][1] for each in bursts]
            print(
                f"{network:>18} {size} px {name:>12} {statistics.median(speed):>9.0f} "
                f"{1000 * statistics.median(seconds):>17.1f}   {summary(by_peer)}   "
                f"{summary(spared)}   {fastest[name] / fastest[PEER]:.2f}",
                flush=True,
            )


def summary(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


@contextmanager
def worker(name: str, network: str, size: int) -> Iterator[subprocess.Popen[str]]:
    """Start this file as a process that measures one burst for each line it reads."""
    root = Path(__file__).parents[1]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow" if name in (PEER, "onnxruntime") else "jax",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": path,
    }
    command = [sys.executable, __file__, "--worker", name, network, str(size)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        burst(process)  # compiles and warms up
        yield process
        assert process.stdin
        process.stdin.close()


def burst(process: subprocess.Popen[str]) -> Burst:
    """Ask a worker for images/s and processor seconds per image over one burst."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    for line in process.stdout:  # a converter may print something
        if line.startswith("burst "):
            speed, seconds = map(float, line.split()[1:])
            return speed, seconds
    raise RuntimeError("a worker has ended")


def work(name: str, network: str, size: int) -> None:
    import numpy as np

    images = np.random.default_rng(0).integers(0, 255, (BATCH, size, size, 3)).astype("uint8")
    run = {
        "openvino": openvino_forward,
        "onnxruntime": onnxruntime_forward,
        "jax": jax_forward,
        PEER: tensorflow_forward,
    }[name](network, size, images)
    for _ in range(3):
        run()
    for _ in sys.stdin:
        start, spent = time.perf_counter(), time.process_time()
        for _ in range(BURST):
            run()
        seconds, spent = time.perf_counter() - start, time.process_time() - spent
        print("burst", BURST * BATCH / seconds, spent / (BURST * BATCH), flush=True)


def pooled(network: str, size: int) -> Any:
    from flowersweep.config.schema import Model
    from flowersweep.models.classifier import build

    make, preprocess = NETWORKS[network]
    config = Model(
        "network",
        {"_target_": make},
        preprocess and {"_target_": preprocess},
        weights="none",
    )
    made = build(config, image_size=(size, size), classes=104, lower=False, finetune=False)
    return made.pooled


def openvino_forward(network: str, size: int, images: Any) -> Callable[[], Any]:
    from flowersweep.models.cpu.inference import CpuNetwork

    compiled = CpuNetwork(pooled(network, size))
    return lambda: compiled.predict_on_batch(images)


def jax_forward(network: str, size: int, images: Any) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    from flowersweep.models.cpu.lowering import lower_for_cpu

    lowered = lower_for_cpu(pooled(network, size))
    weights = [
        [v.value for v in part]
        for part in (lowered.trainable_variables, lowered.non_trainable_variables)
    ]
    forward = jax.jit(
        lambda trainable, rest, batch: lowered.stateless_call(
            trainable, rest, batch.astype(jnp.float32), training=False
        )[0]
    )
    return lambda: jax.block_until_ready(forward(*weights, images))


def tensorflow_forward(network: str, size: int, images: Any) -> Callable[[], Any]:
    import tensorflow as tf

    model = pooled(network, size)
    forward = tf.function(lambda batch: model(tf.cast(batch, tf.float32), training=False))
    return lambda: forward(tf.constant(images)).numpy()


def onnxruntime_forward(network: str, size: int, images: Any) -> Callable[[], Any]:
    import onnxruntime

    model = pooled(network, size)
    model(images[:1].astype("float32"))  # else the converter knows no shapes
    with tempfile.TemporaryDirectory() as folder:
        model.export(f"{folder}/model.onnx", format="onnx", verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        session = onnxruntime.InferenceSession(f"{folder}/model.onnx", options)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images.astype("float32")})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        asked = sys.argv[2:]
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS,
            asked[:1] or [*NETWORKS],
            [int(size) for size in asked[1:]] or [*SIZES],
        )
