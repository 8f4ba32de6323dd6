"""Fit the simplest models on the features of a study's best trial."""

from __future__ import annotations

import contextlib

import numpy as np

from flowersweep.errors import StudyError
from flowersweep.evaluation.simple_baselines import simple_baselines
from flowersweep.search.state import Study
from flowersweep.study.baselines import FEATURES, FILE
from flowersweep.training.context import TrainingContext
from flowersweep.training.folds import deal_folds
from flowersweep.training.trial import part_labels
from flowersweep.util.arrays import read_arrays, write_arrays


def write_baselines(study: Study, context: TrainingContext) -> None:
    """Write what the baselines say of the holdout into the study's folder.

    They are fitted on what the heads train on. Nothing is written for a fine-tuned study whose
    features are not on this machine, or where several hosts train.
    """
    if study.best is None or context.runtime.hosts > 1:
        return
    config = study.trial_config(study.best)
    if config.data.train_on == "all" or (config.train.finetune and context.missing(config)):
        return
    classifier, folds = context.classifier(config), context.folds(config)
    dataset = context.dataset(config.data)
    facts = (dataset.digest, config.data.split_seed, classifier.pretrained)
    features = " ".join(map(str, (*facts, classifier.scaling, classifier.views, folds)))
    path = study.folder / FILE
    with contextlib.suppress(StudyError):  # cut off: made again
        if path.exists() and str(read_arrays(path).get(FEATURES)) == features:
            return
    shared = context.get_shared(config)
    train, train_labels = (np.asarray(array) for array in shared.train)
    labelled = train_labels < len(dataset.classes)  # and not by a model
    train, train_labels = train[labelled], train_labels[labelled]
    dealt = None
    if folds > 1:
        dealt = deal_folds(train_labels, folds, config.data.split_seed, dataset.extra).fold_of
    labels = {part: part_labels(context, config, part) for part in ("tune", "holdout")}
    logits = simple_baselines(
        {"train": train, **{part: np.asarray(shared.features[part]) for part in labels}},
        {"train": train_labels, **labels},
        len(dataset.classes),
        fold_of=dealt,
    )
    arrays = {name: values.astype(np.float16) for name, values in logits.items()}
    write_arrays(
        path, {**arrays, "holdout_labels": labels["holdout"], FEATURES: np.array(features)}
    )
