"""From a trial to its model in MLflow: the network as it was trained, with an example and what it
needs to be used.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flowersweep.config.schema import Config
from flowersweep.data.pipeline import read_images
from flowersweep.ensemble.members import Members
from flowersweep.ensemble.pooling import build_best_model
from flowersweep.search.compatibility import study_folder
from flowersweep.search.state import Study
from flowersweep.study.events import ModelLogged
from flowersweep.tracking.masking import masked, masked_text
from flowersweep.tracking.registry import log_model
from flowersweep.tracking.shipper import run_ids
from flowersweep.tracking.store import address, client
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.multihost import SHARE, broadcast_command
from flowersweep.training.trial import build_keras_model

log = logging.getLogger(__name__)


def log_best(study: Study, context: TrainingContext, members: Members | None) -> None:
    """Log the model of the best trial to its MLflow run, once."""
    best = study.best
    if best is None:
        return
    config = study.trial_config(best)
    store = masked_text(address(config.tracking, Path(config.dir)))
    logged = {
        model.run
        for model in study.record.models
        if (model.trial, model.store) == (best.number, store)
    }
    if logged and _run_of(config, best.number) in logged:  # a new machine has a new store
        return
    if members is not None:
        config, model = (
            replace(config, data=study.config.data),
            build_best_model(study, members, context),
        )
    elif not study.trial_store.weights(best).exists():
        log.warning(
            (
                "no model was logged: the weights of trial %d are not there any more. Promote "
                "the study"
            ),
            best.number,
        )
        return
    else:
        broadcast_command(context.runtime, SHARE, best.params)
        model = build_keras_model(config, Checkpoint.load(study.trial_store.weights(best)), context)
    if model is None:
        return
    run = log_network(config, best.number, model, context)
    study.write(ModelLogged(trial=best.number, run=run, store=store))


def _run_of(config: Config, trial: int) -> str:
    """Return the MLflow run of a trial."""
    journal = study_folder(config) / "journal.jsonl"
    return run_ids(journal, config.tracking, Path(config.dir)).trials[trial]


def log_network(config: Config, trial: int, model: Any, context: TrainingContext) -> str:
    """Log a Keras model to the MLflow run of a trial; return the run's id."""
    dataset = context.dataset(config.data)
    example = read_images(dataset.splits["val"], [0], model.input_shape[1:3])
    run = _run_of(config, trial)
    facts = {
        "classes": list(dataset.classes),
        "data": masked(asdict(config.data)),
        "study": config.study,
        "trial": trial,
    }
    log_model(run, model, example, client(config.tracking, Path(config.dir)), facts=facts)
    return run
