"""A third view of the journal: an Optuna storage that other tools, such as optuna-dashboard, can read while the study runs."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState

from flowersweep.errors import StudyError
from flowersweep.search.optuna_study import STATES
from flowersweep.space.space import Params
from flowersweep.study import journal as journals
from flowersweep.study import objectives
from flowersweep.study.journal import Event
from flowersweep.tracking.masking import masked_text


class OptunaExporter:
    """Follows a journal into an Optuna storage, event by event, from its beginning in every process: what is there is left alone."""

    into = "the mirror"

    def __init__(self, journal: Path, url: str | BaseStorage) -> None:
        """Open the storage, or take the one given, and find the study of ``journal`` in it, or make it.

        Raises StudyError if that cannot be.
        """
        self.journal, self.later = journal, "the study's next start catches up"
        self._events, self._offset = journals.read_events(journal)  # what is to be mirrored; bytes of the journal that were read
        self._trials: dict[int, int] = {}  # number -> id in the storage
        self._ended: set[int] = set()
        self._distributions: dict[str, BaseDistribution] = {}  # by parameter
        try:
            self._storage = RDBStorage(url) if isinstance(url, str) else url
            self._begin(self._events[0])
        except StudyError:
            raise
        except Exception as error:  # whatever SQLAlchemy and the driver of a database raise
            reason = masked_text(str(error)).splitlines()[0]
            raise StudyError(
                f"sweep.mirror={masked_text(str(url))} is no address of a storage, such as sqlite:///FILE: {reason}"
            ) from error

    def step(self) -> int:
        """Mirror the events that are new; return how many."""
        events, self._offset = journals.read_events(self.journal, self._offset)
        self._events += events
        mirrored = 0
        while self._events:
            self._take(self._events[0])
            self._events.pop(0)
            mirrored += 1
        return mirrored

    def close(self) -> None:
        """Leave the storage."""
        self._storage.remove_session()

    def _take(self, event: Event) -> None:
        match event["event"]:
            case "study":
                self._distributions = {name: json_to_distribution(entry["values"]) for name, entry in event["space"].items()}
            case "ask" if event["trial"] not in self._trials:
                self._trials[event["trial"]] = self._create(event["params"])
            case "report" if event["trial"] not in self._ended:
                epoch = event["epochs"][-1]["epoch"]
                self._storage.set_trial_intermediate_value(self._trials[event["trial"]], epoch, event["value"])
            case "tell" if event["trial"] not in self._ended:
                values = (
                    objectives.objective_values(event["value"], event["metrics"], self._names) if event["state"] == "complete" else None
                )
                self._storage.set_trial_state_values(self._trials[event["trial"]], STATES[event["state"]], values)
                self._ended.add(event["trial"])

    def _begin(self, event: Event) -> None:
        """Open the study of that name in the storage, and see which of its trials are there."""
        self._names = event.get("config", {}).get("sweep", {}).get("objectives") or [event["objective"]]
        directions = [objectives.direction(name) for name in self._names]
        study = optuna.create_study(storage=self._storage, study_name=event["study"], directions=directions, load_if_exists=True)
        if study.user_attrs.get("begun", event["time"]) != event["time"] or (study.trials and "begun" not in study.user_attrs):
            raise StudyError(
                f'sweep.mirror holds another study "{event["study"]}": delete it there, or name this one otherwise (study=NAME)'
            )
        study.set_user_attr("begun", event["time"])
        self._study = study._study_id
        for trial in self._storage.get_all_trials(self._study, deepcopy=False):
            self._trials[trial.number] = trial._trial_id
            if trial.state.is_finished():
                self._ended.add(trial.number)

    def _create(self, params: Params) -> int:
        distributions = {name: self._distributions[name] for name in params}
        running = optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
        return self._storage.create_new_trial(self._study, template_trial=running)
