"""The mirror in an Optuna storage: what the journal says, once, however often it catches up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json
from optuna.trial import TrialState

from flowersweep.errors import StudyError
from flowersweep.search.optuna_export import OptunaExporter
from flowersweep.study.journal import Journal
from tests.events import append

SPACE = {
    "loss": {"values": distribution_to_json(CategoricalDistribution(["plain", "focal"]))},
    "gamma": {"values": distribution_to_json(FloatDistribution(0.0, 5.0))},
}


def begin(path: Path) -> Journal:
    journal = Journal(path)
    append(journal, "study_started", study="flowers", space=SPACE)
    return journal


def trial(journal: Journal, number: int, state: str | None, **params: Any) -> None:
    append(journal, "trial_asked", trial=number, params=params)
    append(
        journal,
        "epochs_reported",
        trial=number,
        epochs=[{"epoch": 1}, {"epoch": 2}],
        value=0.5 + number,
    )
    if state:
        append(journal, "trial_ended", trial=number, state=state, value=0.5 + number, metrics={})


def mirrored(url: str) -> list[tuple[TrialState, float | None, dict[str, Any], dict[int, float]]]:
    return [
        (t.state, t.value, t.params, t.intermediate_values)
        for t in optuna.load_study(storage=url, study_name="flowers").trials
    ]


def test_the_mirror_follows_the_journal_and_takes_no_event_twice(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mirror.db"
    with begin(tmp_path / "journal.jsonl") as journal:
        trial(journal, 0, "complete", loss="focal", gamma=2.0)
        trial(journal, 1, None, loss="plain")
        first = OptunaExporter(journal.path, url)
        assert first.step() == 6
        assert mirrored(url) == [
            (TrialState.COMPLETE, 0.5, {"loss": "focal", "gamma": 2.0}, {2: 0.5}),
            (TrialState.RUNNING, None, {"loss": "plain"}, {2: 1.5}),
        ]
        append(journal, "trial_ended", trial=1, state="pruned", value=1.5, metrics={})
        assert first.step() == 1
        trial(journal, 2, "failed", loss="plain")
        second = OptunaExporter(journal.path, url)  # as in a process that is started after a kill
        assert second.step() == 10
        assert [state for state, *_ in mirrored(url)] == [
            TrialState.COMPLETE,
            TrialState.PRUNED,
            TrialState.FAIL,
        ]
        assert second.step() == 0
        first.close()
        second.close()


def test_another_study_of_that_name_is_not_written_over(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mirror.db"
    for number in (1, 2):
        with begin(tmp_path / str(number) / "journal.jsonl") as journal:
            if number == 2:
                with pytest.raises(StudyError, match='holds another study "flowers"'):
                    OptunaExporter(journal.path, url)
            else:
                OptunaExporter(journal.path, url).close()


@pytest.mark.parametrize(
    "url", ["nowhere", "sqlite:////no/such/folder/m.db", "postgresql://me:swordfish@127.0.0.1:1/x"]
)
def test_a_storage_that_cannot_be_opened_is_said_before_anything_is_trained(
    url: str, tmp_path: Path
) -> None:
    with (
        begin(tmp_path / "journal.jsonl") as journal,
        pytest.raises(StudyError, match=r"sweep.optuna_storage=\S+ is no address") as told,
    ):
        OptunaExporter(journal.path, url)
    assert "swordfish" not in str(told.value)
