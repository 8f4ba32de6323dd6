"""How fast is our fine-tuning step against `keras.Model.fit`, and how soon does a second
configuration start?

    python bench/step.py [rounds]

Both train every layer of the same EfficientNet-Lite0 (as it is lowered for this machine) from the
same weights on generated flowers of 96 px, batch 32, with Keras' Adam, dropout, batch statistics,
smoothed cross entropy, in float32 on JAX. Ours reads and decodes its batches from TFRecords on the
way; `Model.fit` gets them from memory. They take turns, an epoch of a few steps each; the first of
each compiles and is not counted. Read the ratio: our images/s by those of `Model.fit`, median and
quartiles. Then both get another learning rate and another label smoothing: what the first epoch of
that takes beyond a usual one, and how many programs are compiled for it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flowersweep.config.compose import compose
from flowersweep.config.paths import with_settings
from flowersweep.config.schema import Config
from flowersweep.data.pipeline import shuffled
from flowersweep.runtime import compiles, start
from flowersweep.training import trial
from flowersweep.training.context import TrainingContext
from flowersweep.training.stages.stage import EpochPlan

BATCH, STEPS, ROUNDS = 32, 6, 9
CACHE = Path("mlruns/cache")
WORDS = [
    "train=finetune",
    f"train.batch_per_replica={BATCH}",
    f"train.steps_per_epoch={STEPS}",
    "train.batch_statistics=true",
]
OTHER = {"train.learning_rate": 3e-4, "loss.label_smoothing": 0.2}

Train = Callable[[Config], None]


def main(rounds: int) -> None:
    """Measure both in turn, then the start of a second configuration."""
    config = compose(WORDS)
    context = TrainingContext(start(CACHE / "compiled"), CACHE, lambda what, done, total: None)
    ours, theirs = flowersweep(config, context), by_hand(context, config)
    seconds(ours, config)
    seconds(theirs, config)
    pairs = [(seconds(ours, config), seconds(theirs, config)) for _ in range(rounds)]
    low, middle, high = statistics.quantiles([peer / mine for mine, peer in pairs], n=4)
    usual = [statistics.median(column) for column in zip(*pairs, strict=True)]
    rates = [BATCH * STEPS / each for each in usual]
    print(f"EfficientNet-Lite0, 96 px, batch {BATCH}, {rounds} rounds of {STEPS} steps")
    print(
        f"flowersweep {rates[0]:.1f} images/s, keras.Model.fit {rates[1]:.1f}, ratio "
        f"{middle:.2f} ({low:.2f} to {high:.2f})"
    )
    other = with_settings(config, OTHER)
    for name, train, each in zip(
        ("flowersweep", "keras.Model.fit"), (ours, theirs), usual, strict=True
    ):
        before = compiles()
        late = seconds(train, other) - each
        print(
            f"a second configuration starts {late:.1f} s late in {name} "
            f"({compiles() - before} programs compiled)"
        )


def seconds(train: Train, config: Config) -> float:
    before = time.perf_counter()
    train(config)
    return time.perf_counter() - before


def flowersweep(config: Config, context: TrainingContext) -> Train:
    """Return a function that trains one epoch of the fine-tune stage."""
    state = context.main_stage(config).begin(context.head_stage(config).begin(None))
    # Model.fit below takes the memory of the network's variables for its own
    state = jax.tree.map(np.array, state)
    epoch = config.train.all_epochs - 1

    def train(config: Config) -> None:
        rates = trial.hyperparameters(config, epoch, STEPS)
        context.main_stage(config).epoch(
            state, rates, EpochPlan(0, 0, STEPS, BATCH), lambda state, losses: None
        )

    return train


def by_hand(context: TrainingContext, config: Config) -> Train:
    """Return a function that trains one epoch with `keras.Model.fit`."""
    import keras  # after flowersweep has chosen its backend

    dataset = context.dataset(config.data)
    batches = [
        *islice(
            shuffled(dataset.splits["train"], dataset.image_size, BATCH, seed=0, epoch=0), STEPS
        )
    ]
    classes = len(dataset.classes)
    images = np.concatenate([each for each, _ in batches])
    targets = keras.utils.to_categorical(np.concatenate([labels for _, labels in batches]), classes)
    features = context.classifier(config).features
    pixels = keras.Input(images.shape[1:])
    model = keras.Model(
        pixels,
        keras.layers.Dense(classes)(keras.layers.Dropout(config.model.dropout)(features(pixels))),
    )
    compiled: dict[str, Any] = {}

    def train(config: Config) -> None:
        if compiled.get("config") is not config:
            loss = keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=config.loss["label_smoothing"]
            )
            model.compile(keras.optimizers.Adam(config.train.learning_rate), loss)
            compiled["config"] = config
        model.fit(images, targets, batch_size=BATCH, epochs=1, verbose=0)

    return train


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
