"""From a trial to its model in MLflow: the calibrated network, with an example and what it needs to
be used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flowersweep.config.command_only import without_variables
from flowersweep.config.schema import Config
from flowersweep.data.pipeline import read_images
from flowersweep.ensemble.members import Members
from flowersweep.ensemble.pooling import build_best_model
from flowersweep.errors import TrackingError
from flowersweep.search.compatibility import study_folder
from flowersweep.search.state import Study
from flowersweep.study.events import ModelLogged
from flowersweep.study.journal import read_events
from flowersweep.study.records import StudyRecord
from flowersweep.tracking.logged import log_model, remove_unfinished
from flowersweep.tracking.masking import MASK, masked, masked_text
from flowersweep.tracking.shipper import run_ids
from flowersweep.tracking.store import address, answering, client
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.multihost import SHARE, broadcast_command
from flowersweep.training.trial import build_keras_model

log = logging.getLogger(__name__)


def log_best(study: Study, context: TrainingContext, members: Members | None) -> None:
    """Log the model of the best trial to its MLflow run, once.

    The study is whole without it, so what goes wrong is a warning: the same command tries again.
    """
    try:
        _log_best(study, context, members)
    except TrackingError as error:
        log.warning("no model was logged: %s. The same command tries again", error)


def _log_best(study: Study, context: TrainingContext, members: Members | None) -> None:
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
    journal = study_folder(config) / "journal.jsonl"
    runs = run_ids(journal, config.tracking, Path(config.dir)).trials if logged else {}
    if runs.get(best.number) in logged:  # a new machine has a new store
        return
    calibration: dict[str, Any]
    if members is not None:
        pooled = build_best_model(study, members, context)
        if pooled is None:
            return
        model, calibration = pooled
        config = replace(config, data=study.config.data)
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
        calibration = {"temperature": best.metrics["tune/temperature"]}
        model = build_keras_model(
            config, Checkpoint.load(study.trial_store.weights(best)), context, **calibration
        )
    run = log_network(config, best.number, model, context, calibration=calibration)
    study.write(ModelLogged(trial=best.number, run=run, store=store))


def log_network(
    config: Config,
    trial: int,
    model: Any,
    context: TrainingContext,
    *,
    calibration: Mapping[str, Any],
) -> str:
    """Log a Keras model to the MLflow run of a trial; return the run's id.

    Args:
        config: What the model was trained with.
        trial: The number of the trial.
        model: Gives logits whose softmax is calibrated.
        context: Where the images are.
        calibration: The temperatures that the model has in it.
    """
    dataset = context.dataset(config.data)
    example = read_images(dataset.splits["val"], [0], model.input_shape[1:3])
    journal = study_folder(config) / "journal.jsonl"
    words = StudyRecord(read_events(journal, most=1)[0]).started.overrides
    runs = run_ids(journal, config.tracking, Path(config.dir)).trials
    run = runs.pop(trial, None)
    if run is None:
        raise TrackingError(
            f"the run of trial {trial} of the study {config.study} is not in MLflow. If it was "
            "deleted, restore it"
        )
    facts = {
        "classes": list(dataset.classes),
        "data": masked(without_variables(asdict(config.data), words, MASK)),
        "study": config.study,
        "trial": trial,
        **calibration,
    }
    store = client(config.tracking, Path(config.dir))
    with answering(store.tracking_uri):
        log_model(run, model, example, store, facts=facts)
        remove_unfinished(store, runs.values())
    return run
