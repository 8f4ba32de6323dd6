"""Images of test with labels of a model, as a training and its configuration take them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.config.schema import Config
from flowersweep.data.dataset import held_out_name, open_dataset
from flowersweep.data.extra.pseudo import labels_file
from flowersweep.errors import ConfigError, DataError
from flowersweep.runtime import compiles
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.identity import identity
from tests.tiny import finetuning, tiny

SGD = {"_target_": "keras.optimizers.SGD", "name": "sgd"}
CONSTANT = {"_target_": "constant", "name": "constant", "warmup": 0, "warmup_start_factor": 1}
CHANCES = np.linspace(0.3, 0.99, 10)


def labelled(path: Path, context: TrainingContext, **facts: Any) -> Config:
    """A configuration with labels of ten images of test: each class in turn, less and more sure."""
    config = tiny()
    dataset = context.dataset(config.data)
    known = {
        "classes": list(dataset.classes),
        "held_out": held_out_name(dataset.held_out_digest, config.data),
        "model": {"run": "r", "study": "teacher", "trial": 3},
    }
    rest = (1 - CHANCES) / 4
    probabilities = np.where(np.eye(5)[np.arange(10) % 5] > 0, CHANCES[:, None], rest[:, None])
    path.write_bytes(
        labels_file(dataset.splits["test"].ids.tolist(), probabilities, {**known, **facts})
    )
    return replace(config, data=replace(config.data, pseudo_labels=str(path)))


def one_step(config: Config, context: TrainingContext, **train: Any) -> np.ndarray:
    """The kernel (K, D) after one step of gradient descent on all images, at a rate of 1."""
    settings = {"epochs": 1, "batch_per_replica": 64, "learning_rate": 1.0, **train}
    config = replace(
        config,
        optimizer=SGD,
        schedule=CONSTANT,
        model=replace(config.model, dropout=0.0),
        train=replace(config.train, **settings),
    )
    state = trial.advance(config, Checkpoint(), 1, context)[0].state
    assert state is not None
    return np.asarray(state.trainable[0])


@pytest.mark.parametrize(("weight", "threshold"), [(1.0, 0.0), (0.5, 0.6), (2.0, 0.9), (0.0, 0.0)])
def test_a_step_is_that_of_numpy_with_a_weight_for_each_image(
    weight: float, threshold: float, context: TrainingContext, tmp_path: Path
) -> None:
    config = labelled(tmp_path / "labels.json", context)
    kernel = one_step(config, context, pseudo_weight=weight, pseudo_threshold=threshold)
    dataset, rows = context.dataset(config.data), np.asarray(context.get_shared(config).train[0])
    assert dataset.pseudo is not None
    own = dataset.splits["train"].labels
    assert own is not None
    labels = np.concatenate([own, np.arange(10) % 5])
    counted = (threshold <= CHANCES) & (dataset.pseudo.thousandths > 1)
    assert dataset.pseudo.count(threshold) == counted.sum()
    weights = np.concatenate([np.ones(40), weight * counted])
    targets = 0.9 * np.eye(5)[labels] + 0.1 / 5  # smoothed by 0.1
    wanted = (weights[:, None] * (targets - 1 / 5)).T @ rows / len(rows)
    np.testing.assert_allclose(kernel, wanted, rtol=1e-3, atol=1e-5)


def test_weight_and_threshold_compile_nothing_and_count(
    context: TrainingContext, tmp_path: Path
) -> None:
    config = labelled(tmp_path / "labels.json", context)
    first = one_step(config, context)
    before = compiles()
    assert not np.allclose(first, one_step(config, context, pseudo_threshold=0.5))
    assert not np.allclose(first, one_step(config, context, pseudo_weight=3.0))
    assert compiles() == before
    keys = {"pseudo_weight": 3.0, "pseudo_threshold": 0.5}
    plain = tiny()
    changed = replace(plain, train=replace(plain.train, **keys))
    assert identity(plain, 1) == identity(changed, 1)  # nothing is labelled so there
    assert identity(config, 1) != identity(replace(config, train=changed.train), 1)


def test_what_trials_are_judged_by_is_that_without_pseudo_labels(
    context: TrainingContext, tmp_path: Path
) -> None:
    config = labelled(tmp_path / "labels.json", context)
    dataset, plain = context.dataset(config.data), context.dataset(tiny().data)
    assert dataset.digest != plain.digest
    assert dataset.held_out_digest == plain.held_out_digest
    assert len(dataset.splits["train"]) == len(plain.splits["train"])
    assert len(dataset.trained()) == 50
    everything = open_dataset(replace(config.data, train_on="all"), context.cache)
    assert len(everything.trained()) == 80
    assert (
        "by the model of run r (study teacher, trial 3), which was trained on train alone"
        in (dataset.remarks[-1])
    )
    assert context.folds(replace(config, data=replace(config.data, folds=None))) == 1
    with pytest.raises(ConfigError, match="no fold of it is untouched"):
        context.folds(replace(config, data=replace(config.data, folds=3)))
    with pytest.raises(ConfigError, match="do not go together"):
        context.batch(replace(config, train=replace(config.train, min_class_images=3)))


def test_fine_tuning_takes_the_same_images(context: TrainingContext, tmp_path: Path) -> None:
    config = replace(labelled(tmp_path / "labels.json", context), train=finetuning())
    assert context.steps(config, 1) == 6  # of 8 of 50 images
    trained, _ = trial.advance(config, Checkpoint(), 2, context)
    other = replace(config, train=finetuning(pseudo_weight=0.0))
    without, _ = trial.advance(other, Checkpoint(), 2, context)
    assert trained.state is not None
    assert without.state is not None
    assert not np.allclose(trained.state.weights[0], without.state.weights[0])


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"classes": ["a", "b"]}, "names other classes"),
        ({"held_out": "0.0"}, "other images were held out from"),
        ({"model": 3}, "cannot be read"),
        ({"format": 9}, "is of format 9"),
    ],
)
def test_labels_of_another_place_are_refused(
    facts: dict[str, Any], told: str, context: TrainingContext, tmp_path: Path
) -> None:
    path = tmp_path / "labels.json"
    config = labelled(path, context)
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, **facts}))
    with pytest.raises(DataError, match=f"{told}.*predict format=pseudo_labels"):
        open_dataset(config.data, context.cache)
    path.write_text(json.dumps({**known, "images": known["images"][::-1]}))
    with pytest.raises(DataError, match="other images of test"):
        open_dataset(config.data, context.cache)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        open_dataset(config.data, context.cache)
