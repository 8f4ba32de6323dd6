"""Mirror a journal into an Optuna storage, which optuna-dashboard can read during a study."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from flowersweep.errors import StudyError
from flowersweep.search.optuna_study import STATES
from flowersweep.study import journal as journals
from flowersweep.study import objectives
from flowersweep.study.events import EpochsReported, Event, StudyStarted, TrialAsked, TrialEnded
from flowersweep.study.records import StudyRecord
from flowersweep.tracking.masking import masked_text


class OptunaExporter:
    """Copies a journal into an Optuna storage, event by event.

    Every process starts at the first event and skips what the storage already has.
    """

    into = "the mirror"

    def __init__(self, journal: Path, url: str | BaseStorage) -> None:
        """Open the storage, and load or create the study of ``journal`` in it.

        Args:
            url: The address of a storage, or the storage itself.

        Raises:
            StudyError: The storage cannot be opened, or holds another study of this name.
        """
        self.journal, self.later = journal, "the study's next start catches up"
        # the events still to mirror, and the bytes read so far
        self._events, self._offset = journals.read_events(journal)
        self._trials: dict[int, int] = {}  # number -> id in the storage
        self._ended: set[int] = set()
        self._distributions: dict[str, BaseDistribution] = {}
        self._storage = _open_storage(url) if isinstance(url, str) else url
        try:
            self._begin(self._events[0])
        except (SQLAlchemyError, StorageInternalError) as error:
            reason = masked_text(str(error)).splitlines()[0]
            raise StudyError(
                f"sweep.optuna_storage={masked_text(str(url))} does not answer: {reason}"
            ) from error

    def step(self) -> int:
        """Mirror the new events; return how many."""
        events, self._offset = journals.read_events(self.journal, self._offset)
        self._events += events
        mirrored = 0
        while self._events:
            self._take(self._events[0])
            self._events.pop(0)
            mirrored += 1
        return mirrored

    def close(self) -> None:
        """Close the session of the storage."""
        self._storage.remove_session()

    def _take(self, event: Event) -> None:
        match event:
            case StudyStarted():
                self._distributions = {
                    name: json_to_distribution(entry["values"])
                    for name, entry in event.space.items()
                }
            case TrialAsked() if event.trial not in self._trials:
                distributions = {name: self._distributions[name] for name in event.params}
                trial = optuna.trial.create_trial(
                    state=TrialState.RUNNING, params=event.params, distributions=distributions
                )
                self._trials[event.trial] = self._storage.create_new_trial(
                    self._study, template_trial=trial
                )
            case EpochsReported() if event.trial not in self._ended:
                self._storage.set_trial_intermediate_value(
                    self._trials[event.trial], event.epochs[-1].epoch, event.value
                )
            case TrialEnded() if event.trial not in self._ended:
                values = None
                if event.state == "complete" and event.value is not None:
                    values = objectives.objective_values(event.value, event.metrics, self._names)
                self._storage.set_trial_state_values(
                    self._trials[event.trial], STATES[event.state], values
                )
                self._ended.add(event.trial)

    def _begin(self, event: Event) -> None:
        """Load or create the study in the storage, and note the trials that it already has."""
        started = StudyRecord([event]).started
        self._names = StudyRecord([event]).objectives
        directions = [objectives.direction(name) for name in self._names]
        study = optuna.create_study(
            storage=self._storage,
            study_name=started.study,
            directions=directions,
            load_if_exists=True,
        )
        if study.user_attrs.get("objectives", self._names) != self._names or study.directions != [
            StudyDirection[name.upper()] for name in directions
        ]:
            raise StudyError(
                f'sweep.optuna_storage holds the study "{started.study}" by another objective: '
                "delete it there, or mirror it elsewhere"
            )
        if study.user_attrs.get("started", started.time) != started.time or (
            study.trials and "started" not in study.user_attrs
        ):
            raise StudyError(
                f'sweep.optuna_storage holds another study "{started.study}": delete it there, or '
                "name this one otherwise (study=NAME)"
            )
        study.set_user_attr("started", started.time)
        study.set_user_attr("objectives", self._names)
        self._study = study._study_id
        for trial in self._storage.get_all_trials(self._study, deepcopy=False):
            self._trials[trial.number] = trial._trial_id
            if trial.state.is_finished():
                self._ended.add(trial.number)


def _open_storage(url: str) -> RDBStorage:
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, StorageInternalError, ImportError, ValueError, OSError) as error:
        reason = masked_text(str(error)).splitlines()[0]
        raise StudyError(
            f"sweep.optuna_storage={masked_text(url)} is no address of a storage, such as "
            f"sqlite:///FILE: {reason}"
        ) from error
