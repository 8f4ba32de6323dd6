"""The simplest models on the same features, and what is said of a model beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowersweep.evaluation.calibration import calibrated_nll
from flowersweep.evaluation.scores import accuracy
from flowersweep.evaluation.simple_baselines import fit_regression, simple_baselines
from flowersweep.study.baselines import FILE, STRONGEST, compare_with_baselines
from flowersweep.util.arrays import write_arrays

CLASSES = 4


def blobs(images: int, seed: int, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Features around a centre for each class; class 3 is half of all."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 3, 3, 3], images)
    centres = np.random.default_rng(0).normal(0, 3, (CLASSES, 8))
    return (centres[labels] + rng.normal(0, spread, (images, 8))).astype(np.float32), labels


def fitted(labels_of_train: int = CLASSES) -> tuple[dict[str, np.ndarray], np.ndarray]:
    parts = {part: blobs(200, seed) for seed, part in enumerate(("train", "tune", "holdout"))}
    seen = parts["train"][1] < labels_of_train
    features = {part: rows for part, (rows, _) in parts.items()}
    features["train"] = features["train"][seen]
    labels = {"train": parts["train"][1][seen], "tune": parts["tune"][1]}
    return simple_baselines(features, labels, CLASSES), parts["holdout"][1]


def test_each_baseline_is_what_its_name_says() -> None:
    baselines, truth = fitted()
    assert set(baselines["most frequent class"].argmax(axis=1)) == {3}
    assert accuracy(baselines["most frequent class"], truth) < 0.6
    assert accuracy(baselines["nearest centroid"], truth) > 0.75
    assert accuracy(baselines["logistic regression"], truth) > 0.75
    assert all(np.isfinite(logits.astype(np.float16)).all() for logits in baselines.values())


def test_the_penalty_is_chosen_by_folds_where_tune_is_a_part_of_train() -> None:
    (rows, labels), (others, truth) = blobs(60, 0), blobs(300, 1)
    features = {"train": rows, "tune": rows, "holdout": others}
    known = {"train": labels, "tune": labels}
    folds = np.arange(60) % 3
    chosen = simple_baselines(features, known, CLASSES, fold_of=folds)["logistic regression"]
    seen = simple_baselines(features, known, CLASSES)["logistic regression"]
    assert calibrated_nll(chosen, truth) <= calibrated_nll(seen, truth)
    few = np.zeros(60, int)
    few[labels == 0] = 1  # no other fold has class 0
    assert np.isfinite(simple_baselines(features, known, CLASSES, fold_of=few)[STRONGEST]).all()


def test_a_class_that_no_training_image_has_is_never_predicted() -> None:
    baselines, _ = fitted(labels_of_train=3)
    assert all(3 not in logits.argmax(axis=1) for logits in baselines.values())


def test_a_model_is_said_to_be_better_worse_or_neither(tmp_path: Path) -> None:
    baselines, truth = fitted()
    perfect = np.eye(CLASSES)[truth] * 9
    assert compare_with_baselines(tmp_path, perfect, truth) is None
    write_arrays(tmp_path / FILE, {**baselines, "holdout_labels": truth})
    assert "; better than logistic regression: +" in str(
        compare_with_baselines(tmp_path, perfect, truth)
    )
    assert "; worse than logistic regression: -" in str(
        compare_with_baselines(tmp_path, np.roll(perfect, 1, axis=1), truth)
    )
    same = str(compare_with_baselines(tmp_path, baselines["logistic regression"], truth))
    assert "; not better than logistic regression: +0.000" in same
    assert compare_with_baselines(tmp_path, perfect, np.roll(truth, 1)) is None  # other images


def test_a_regression_on_many_classes_takes_more_than_no_step() -> None:
    rng, classes = np.random.default_rng(0), 600
    centres = rng.normal(size=(classes, 32))
    rows = (np.tile(centres, (2, 1)) + rng.normal(0, 0.1, (2 * classes, 32))).astype(np.float32)
    labels = np.tile(np.arange(classes), 2)
    assert accuracy(fit_regression(1e-3, rows, labels, rows, classes), labels) > 0.95
