"""The work of a trial: the tasks that the executor runs, one after the other."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import optuna

from flowersweep.execution.protocol import (
    Evaluate,
    Evaluation,
    RenderFigures,
    SaveCheckpoint,
    StartTrial,
    Task,
    TrainUntil,
    TrialSpec,
)
from flowersweep.search.state import Study
from flowersweep.study.events import Epoch
from flowersweep.study.objectives import objective_names, training_seconds
from flowersweep.study.records import TrialRecord
from flowersweep.util.files import write_bytes

TrialSteps = Generator[Task, Any, None]  # yields tasks; receives the answer to each


class TrialWork(Protocol):
    """The work of each trial of a study."""

    def steps(self, study: Study, record: TrialRecord, trial: optuna.Trial) -> TrialSteps:
        """Yield the tasks of a trial until it has ended. Raises TrialFailed."""


class TrainTrial:
    """Trains a trial, segment by segment, until it is pruned or done.

    Args:
        keep_networks: Save the weights of every trial, not only of the best.
    """

    def __init__(self, *, keep_networks: bool = False) -> None:
        self._keep_networks = keep_networks

    def steps(self, study: Study, record: TrialRecord, trial: optuna.Trial) -> TrialSteps:
        """Yield the tasks of a trial.

        Segments that are in the journal are not journaled again: they give the same numbers.
        """
        config = study.trial_config(record)
        epoch: int = yield _start(study, record)
        last = config.train.all_epochs
        study.requests.take(record)  # killed before it took them
        while not record.pruned and not record.stopped_before(last) and epoch < last:
            segment = config.sweep.report_interval_epochs
            until = min((epoch // segment + 1) * segment, last)
            epochs: list[Epoch] = yield TrainUntil(until)
            epoch = epochs[-1].epoch if epochs else epoch
            if epochs and epoch not in record.reports:
                study.report_epochs(record, trial, epochs)
                study.requests.take(record)
            if epoch < until:  # the training has ended by itself
                break
        if record.pruned or record.stopped_before(last):
            if record.hyperband_state:  # another trial may continue it
                yield SaveCheckpoint()
            reason = None if record.pruned else "stopped by hand"
            value = [*record.reports.values()][-1]
            study.end_trial(record, trial, "pruned", value=value, reason=reason)
        else:
            evaluation: Evaluation = yield Evaluate()
            yield from self._complete(study, record, trial, evaluation)

    def _complete(
        self, study: Study, record: TrialRecord, trial: optuna.Trial, evaluation: Evaluation
    ) -> TrialSteps:
        """Save the result of a trial, with figures if it is among the best, and end the trial."""
        store, train = study.trial_store, study.trial_config(record).train
        value, metrics = evaluation.metrics[study.config.sweep.objective], evaluation.metrics
        if "time" in objective_names(study.config):
            head = train.all_epochs - train.epochs
            metrics = {**metrics, "time": training_seconds(record.times, head)}
        if self._keep_networks:
            store.save_network(record, evaluation.network)
        folder = store.save_result(
            record.number, value, metrics, evaluation.arrays, evaluation.network
        )
        if store.logits(record).exists():
            figures: dict[str, bytes] = yield RenderFigures(store.weights(record).exists())
            for name, content in figures.items():
                write_bytes(study.folder / folder / name, content)
        study.end_trial(record, trial, "complete", value=value, metrics=metrics, folder=folder)


def _start(study: Study, record: TrialRecord) -> StartTrial:
    config, path = study.trial_config(record), study.trial_store.checkpoint_to_resume(record)
    if not study.executor.remote:
        return StartTrial(TrialSpec(record.number, config, record.params, record.seed), path)
    fingerprint = study.trainer.fingerprint(config)
    spec = TrialSpec(record.number, config, record.params, record.seed, fingerprint)
    return StartTrial(spec, path.read_bytes() if path.exists() else None)
