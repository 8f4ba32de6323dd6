"""Fit the simplest models on the features of a study's best trial."""

from __future__ import annotations

import contextlib

import numpy as np

from flowersweep.errors import StudyError
from flowersweep.evaluation.simple_baselines import simple_baselines
from flowersweep.search.state import Study
from flowersweep.study.baselines import FEATURES, FILE
from flowersweep.training.context import TrainingContext
from flowersweep.training.trial import part_labels
from flowersweep.util.arrays import read_arrays, write_arrays


def write_baselines(study: Study, context: TrainingContext) -> None:
    """Write what the baselines say of the holdout into the study's folder.

    Nothing is written for a fine-tuned trial, whose features are not at hand, or on several hosts.
    """
    best = study.best
    if best is None or context.runtime.hosts > 1:
        return
    config = study.trial_config(best)
    if config.train.finetune or config.data.train_on == "all":
        return
    dataset, classifier = context.dataset(config.data), context.classifier(config)
    features = " ".join(
        (
            dataset.digest,
            str(config.data.split_seed),
            classifier.pretrained,
            classifier.scaling,
            str(classifier.views),
        )
    )
    path = study.folder / FILE
    with contextlib.suppress(StudyError):  # cut off: made again
        if path.exists() and str(read_arrays(path).get(FEATURES)) == features:
            return
    shared = context.get_shared(config)
    train, train_labels = (np.asarray(array) for array in shared.train)
    parts = ("tune", "holdout")
    labels = {part: part_labels(context, config, part) for part in parts}
    logits = simple_baselines(
        {"train": train, **{part: np.asarray(shared.features[part]) for part in parts}},
        {"train": train_labels, **labels},
        len(shared.dataset.classes),
    )
    arrays = {name: values.astype(np.float16) for name, values in logits.items()}
    facts = {"holdout_labels": labels["holdout"], FEATURES: np.array(features)}
    write_arrays(path, {**arrays, **facts})
