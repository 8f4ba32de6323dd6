"""How fast is the fine-tuning step on an accelerator, against what the card can do and against a
plain `jax.jit` step written by hand?

    python bench/accelerator.py [--minutes 9] [--networks NAME,...] [--size 224] [--batch 128]

It needs this folder, NumPy, JAX and Keras, and no image: no TensorFlow, MLflow or Optuna, and
nothing installed. Each part is a process of its own with a time limit, so that one which hangs does
not take the others with it. Weights are random, images are noise; both steps take the same ones.

- `matmul`: the product of two large matrices in each precision, the limit where the data sheet's is
  not known.
- each network in bfloat16 and float32: images/s of our step (traced hyperparameters, smoothed
  cross entropy, dropout, decoupled weight decay, Adam) and of a step by hand (cross entropy, Adam,
  nothing traced), in turns; operations by XLA's cost analysis as a share of the limit; the peak of
  the memory, and that with `runtime.remat`; programs compiled for a second learning rate.
- `heads`: a sweep of heads on 5539 x 1280 features of 104 classes, trials/s and programs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import keras
import numpy as np

from flowersweep.config.schema import Model
from flowersweep.models.classifier import Classifier, build
from flowersweep.runtime import compiles, device_room, start
from flowersweep.training import schedules
from flowersweep.training.losses import focal_cross_entropy
from flowersweep.training.stages.finetune import FinetuneStage
from flowersweep.training.stages.head import HeadStage
from flowersweep.training.stages.stage import EpochPlan, SharedArrays
from flowersweep.training.step import StepComponents

NETWORKS = {
    "densenet201": "keras.applications.DenseNet201",
    "efficientnetv2s": "keras.applications.EfficientNetV2S",
    "convnext_tiny": "keras.applications.ConvNeXtTiny",
    "vit_b16": "accelerator.vit_b16",  # where keras_hub is installed
    "tiny": "tiny_backbone",
}
PRECISIONS = ("bfloat16", "float32")
CLASSES, ROUNDS = 104, 5
# operations a second without sparsity, from the makers' data sheets: bfloat16, and what JAX takes
# for float32 by default (TF32 on NVIDIA's from Ampere on)
PEAK = {
    "B200": (2250e12, 1100e12),
    "H200": (989e12, 494e12),
    "H100": (989e12, 494e12),
    "A100": (312e12, 156e12),
    "L40S": (362e12, 183e12),
    "L4": (121e12, 60e12),
    "TPU v5 lite": (197e12, 197e12),
    "TPU v6 lite": (918e12, 918e12),
}
Step = Callable[[], Any]


def main(words: list[str]) -> int:
    """Run every part within the minutes, or the one part that is named."""
    asked = _asked(words)
    if asked.part:
        print(json.dumps(_measure(asked)))
        return 0
    parts = ["matmul", *(f"{n}:{p}" for n in asked.networks for p in PRECISIONS), "heads"]
    deadline, limits, failed = time.monotonic() + 60 * asked.minutes, {}, False
    for number, part in enumerate(parts):
        # a part that ends early leaves its time to the others
        seconds = min(2 * 60 * asked.minutes / len(parts), deadline - time.monotonic())
        outcome = _in_a_process([*words, "--part", part], max(1.0, seconds))
        if part == "matmul":
            limits = outcome
        failed |= "failed" in outcome
        print(
            f"[{number + 1}/{len(parts)}] {part}: {_described(part, outcome, limits)}", flush=True
        )
    return int(failed)


def _asked(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--networks", default="efficientnetv2s,convnext_tiny,vit_b16,densenet201")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="of each round")
    parser.add_argument("--part", default="")
    asked = parser.parse_args(words)
    asked.networks = asked.networks.split(",")
    return asked


def _in_a_process(words: list[str], seconds: float) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).resolve()), *words]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {seconds:.0f} s"}
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if "Error" in line] or ["no message"]
        return {"failed": lines[-1]}
    outcome: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return outcome


def _measure(asked: argparse.Namespace) -> dict[str, Any]:
    start()
    if asked.part == "matmul":
        return _matmul()
    if asked.part == "heads":
        return _heads(asked)
    name, precision = asked.part.split(":")
    return _network(name, precision, asked)


def _described(part: str, outcome: dict[str, Any], limits: dict[str, Any]) -> str:
    if "failed" in outcome:
        return f"failed: {outcome['failed']}"
    if "left_out" in outcome:
        return str(outcome["left_out"])
    if part == "matmul":
        rates = ", ".join(f"{each} {outcome[each] / 1e12:.3g}" for each in PRECISIONS)
        return f"{outcome['device']}, TFLOP/s: {rates}"
    if part == "heads":
        return (
            f"{outcome['rate']:.2f} trials/s of {outcome['steps']} steps, "
            f"{outcome['compiled']} programs after the first"
        )
    precision = part.partition(":")[2]
    known = [peaks for kind, peaks in PEAK.items() if kind in str(limits.get("device"))]
    measured = limits.get(precision)
    limit = known[0][PRECISIONS.index(precision)] if known else measured
    share = f", {outcome['flops'] * outcome['rate'] / limit:.1%} of the limit" if limit else ""
    memory = f"{outcome['bytes'] / 1e9:.2f} GB, {outcome['remat_bytes'] / 1e9:.2f} with remat"
    return (
        f"{outcome['rate'] * outcome['batch']:,.1f} images/s, {outcome['ratio']:.3f} of the step "
        f"by hand{share}; {memory}; compiled in {outcome['seconds']:.0f} s, "
        f"{outcome['compiled']} programs for another rate"
    )


def _matmul() -> dict[str, Any]:
    """Measure operations a second of a large product."""
    device = jax.devices()[0]
    side = 1024 if device.platform == "cpu" else 8192
    rates: dict[str, Any] = {"device": device.device_kind}
    for precision in PRECISIONS:
        a = jnp.ones((side, side), precision)
        product = jax.jit(lambda a: a @ a)
        product(a).block_until_ready()
        times = [_seconds(lambda: product(a), 10) for _ in range(3)]  # noqa: B023 - called at once
        rates[precision] = 2 * side**3 / min(times)
    return rates


def _seconds(step: Step, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        last = step()
    jax.block_until_ready(last)
    return (time.perf_counter() - began) / times


def _network(name: str, precision: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure our step and the one by hand in turns."""
    try:
        made = _classifier(name, precision, asked.size)
    except ImportError as error:
        return {"left_out": f"left out: {error}"}
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (asked.batch, asked.size, asked.size, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, asked.batch).astype(np.int32)
    began = time.perf_counter()
    ours, cost, memory, compiled = _ours(made, images, labels)
    seconds = time.perf_counter() - began
    by_hand = _by_hand(made, images, labels)
    _seconds(ours, 2), _seconds(by_hand, 2)
    pairs = [(_seconds(ours, asked.steps), _seconds(by_hand, asked.steps)) for _ in range(ROUNDS)]
    usual = statistics.median(mine for mine, _ in pairs)
    return {
        "rate": 1 / usual,
        "batch": asked.batch,
        "ratio": statistics.median(theirs / mine for mine, theirs in pairs),
        "flops": cost,
        "bytes": memory,
        "remat_bytes": _lowered(made, images, labels, remat=True)[1],
        "room": device_room(),
        "seconds": seconds,
        "compiled": compiled,
    }


def vit_b16(*, input_shape: Any, include_top: bool = False, weights: str | None = None) -> Any:
    """Return ViT-B/16 of keras_hub with random weights, its tokens as a map."""
    import keras_hub

    network = keras_hub.models.ViTBackbone(
        image_shape=input_shape,
        patch_size=16,
        num_layers=12,
        num_heads=12,
        hidden_dim=768,
        mlp_dim=3072,
        use_class_token=True,
    )
    images, side = keras.Input(input_shape), input_shape[0] // 16
    maps = keras.layers.Reshape((side, side, 768))(network(images)[:, 1:])
    return keras.Model(images, maps, name="vit_b16")


def _classifier(name: str, precision: str, size: int) -> Classifier:
    if name == "vit_b16":
        import keras_hub  # noqa: F401 - left out where it is missing
    return build(
        Model(name=name, backbone={"_target_": NETWORKS[name]}, weights="none"),
        image_size=(size, size),
        classes=CLASSES,
        lower=False,
        finetune=True,
        trusted=("accelerator",),
        precision=precision,
    )


def _shared(made: Any, train: Any = None, features: Any = None) -> SharedArrays:
    dataset: Any = SimpleNamespace(classes=("",) * CLASSES, pseudo=None, trained=lambda: None)
    return SharedArrays(start(), dataset, made, train, features or {})


def _components(*, remat: bool = False) -> StepComponents:
    return StepComponents(
        focal_cross_entropy, schedules.cosine, keras.optimizers.Adam(), remat=remat
    )


def _numbers(rate: float) -> dict[str, dict[str, Any]]:
    """Return the traced hyperparameters of a step."""
    train = {
        "learning_rate": rate,
        "backbone_lr_multiplier": 1.0,
        "layer_decay": 1.0,
        "frozen_share": 0.0,
        "augmented": 0.0,
        "weight_decay": 1e-4,
        "gradient_clip_norm": np.inf,
        "ema_half_life": 0.0,
        "dropout": 0.2,
        "drop_path": 0.0,
        "ensemble_loss": 0.0,
        "steps": 1000.0,
    }
    values = {
        "loss": {"label_smoothing": 0.1, "gamma": 0.0, "beta": 0.0, "tau": 0.0},
        "augment": {},
        "schedule": {"warmup": 0.1, "warmup_start_factor": 0.1, "final_factor": 0.0},
        "train": train,
    }
    scalars: dict[str, dict[str, Any]] = jax.tree.map(np.float32, values)
    scalars["train"]["seed"] = np.uint32(0)
    return scalars


def _lowered(made: Classifier, images: Any, labels: Any, *, remat: bool) -> tuple[float, float]:
    """Return a step's operations and the bytes at its peak."""
    stage = FinetuneStage(_shared(made), _components(remat=remat))
    arguments = (stage.begin(None), _numbers(1e-4), *map(start().shard_batch, (images, labels)))
    program = stage.step.lower(*arguments).compile()
    size = program.memory_analysis()
    peak = size.argument_size_in_bytes + size.temp_size_in_bytes + size.output_size_in_bytes
    return program.cost_analysis()["flops"], peak - size.alias_size_in_bytes


def _ours(made: Classifier, images: Any, labels: Any) -> tuple[Step, float, float, int]:
    """Return our step, its operations, its bytes, and the programs of a second rate."""
    stage = FinetuneStage(_shared(made), _components())
    # the steps reuse the memory of their argument, and the weights of the network are it
    state = jax.tree.map(jnp.copy, stage.begin(None))
    batch = [*map(start().shard_batch, (images, labels))]
    flops, memory = _lowered(made, images, labels, remat=False)

    def step(rate: float = 1e-4) -> Any:
        nonlocal state
        state, loss = stage.step(state, _numbers(rate), *batch)
        return loss

    jax.block_until_ready(step())
    before = compiles()
    jax.block_until_ready(step(3e-4))
    return step, flops, memory, compiles() - before


def _by_hand(made: Classifier, images: Any, labels: Any) -> Step:
    """Return the step that somebody would write for this one configuration."""
    network, width = made.features, made.widths[0]
    weights = [v.value + 0 for v in network.trainable_variables]
    weights += [jnp.zeros((width, CLASSES)), jnp.zeros(CLASSES)]
    fixed = [v.value for v in network.non_trainable_variables]
    first, second = ([jnp.zeros_like(w) for w in weights] for _ in range(2))
    batch = [*map(start().shard_batch, (images, labels))]

    def loss_of(weights: list[Any], images: Any, labels: Any) -> Any:
        *backbone, kernel, bias = weights
        images = images.astype(jnp.float32)
        features, _ = network.stateless_call(backbone, fixed, images, training=False)
        log_p = jax.nn.log_softmax(features @ kernel + bias)
        return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()

    def train(state: Any, images: Any, labels: Any) -> Any:
        weights, first, second, n = state
        loss, gradients = jax.value_and_grad(loss_of)(weights, images, labels)
        n = n + 1
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
        rate = 1e-4 * jnp.sqrt(1 - 0.999**n) / (1 - 0.9**n)
        moved = [
            w - rate * m / (jnp.sqrt(v) + 1e-7)
            for w, m, v in zip(weights, first, second, strict=True)
        ]
        return (moved, first, second, n), loss

    compiled = jax.jit(train, donate_argnums=0)
    state = (weights, first, second, jnp.float32(0))

    def step() -> Any:
        nonlocal state
        state, loss = compiled(state, *batch)
        return loss

    return step


def _heads(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure a sweep of heads, a trial with other numbers after the other."""
    images, batch, epochs = 5539, 128, 10
    rng, runtime = np.random.default_rng(0), start()
    features = rng.standard_normal((images, 1280), np.float32)
    labels = rng.integers(0, CLASSES, images).astype(np.int32)
    made: Any = SimpleNamespace(widths=(1280,))
    tune = runtime.replicate(features[:800])
    shared = _shared(made, runtime.replicate((features, labels)), {"tune": tune})
    stage, steps = HeadStage(shared, _components()), images // batch

    def trial(rate: float) -> None:
        state = stage.begin(None)
        for epoch in range(epochs):
            plan = EpochPlan(0, epoch, steps, batch)
            state, _ = stage.epoch(state, _numbers(rate), plan, lambda *_: None)
        stage.logits(state, "tune")

    trial(1e-3)
    before, trials = compiles(), max(2, asked.steps // 2)
    began = time.perf_counter()
    for n in range(trials):
        trial(1e-3 * 1.1**n)
    seconds = time.perf_counter() - began
    return {
        "rate": trials / seconds,
        "steps": steps * epochs,
        "compiled": compiles() - before,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
