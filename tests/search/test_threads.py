"""Trials beside each other in one process: what each gives, what is told of them and in which order does not depend on the clock."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowersweep.config.compose import compose, config_folder
from flowersweep.errors import ConfigError, TrialFailed
from flowersweep.execution.pool import Paused
from flowersweep.execution.runner import Evaluate, StartTrial, Task, TrainUntil, TrialRunner, TrialSpec
from flowersweep.execution.threads import Threads
from flowersweep.study.records import StudyRecord
from flowersweep.training.context import TrainingContext
from tests.conftest import TINY
from tests.events import fold
from tests.search.conftest import Fork
from tests.training.conftest import tiny

WORDS = ["+sweep=smoothing", "sampler=qmc", "sweep.n_trials=6", "tracking.enabled=false", "train.checkpoint_seconds=0", *TINY]
BESIDE = ["executor=threads", "sweep.workers=3"]


class Nobody:
    """Has no wishes, but the one to be late."""

    def __init__(self, late: bool = False) -> None:
        self.stored: list[int] = []
        self.is_late = late

    def passed(self, number: int, epoch: int, steps: int) -> None:
        pass

    def store(self, number: int, checkpoint: Any) -> None:
        self.stored.append(number)

    def late(self) -> bool:
        return self.is_late


def events(study: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (study / "journal.jsonl").read_text().splitlines()]
    return [event for event in found if event["event"] == kind]


def answered(does: Threads, attendant: Nobody) -> tuple[int, Any]:
    while (found := does.answer(attendant)) is None:
        pass
    return found


def job(number: int, **train: Any) -> TrialSpec:
    return TrialSpec(number, tiny(train=replace(tiny().train, **train)), {}, None)


@pytest.mark.parametrize("stage", ["train=frozen", "train=finetune"])
def test_each_trial_gives_bit_for_bit_what_it_gives_alone_and_the_first_compiles(stage: str, project: Path, fork: Fork) -> None:
    for words in (["study=alone"], [*BESIDE, "study=beside"]):
        run = fork(project, [*WORDS, "pruner=none", stage, *words])
        assert run.returncode == 0, run.stderr
    alone, beside = (project / "mlruns" / "studies" / name for name in ("alone", "beside"))
    told = [{event["trial"]: event["metrics"] for event in events(study, "trial_ended")} for study in (alone, beside)]
    assert told[0] == told[1]
    assert len(told[1]) == 6
    moments = [event["logical_time"] for event in events(beside, "epochs_reported")]
    assert moments == sorted(moments)
    assert len({event["worker"] for event in events(beside, "epochs_reported")}) == 3
    counted = [sum(event["programs"] for event in events(study, "programs_compiled")) for study in (alone, beside)]
    assert counted[0] == counted[1] > 0


@pytest.mark.parametrize("pruner", [file.stem for file in sorted(config_folder("conf").glob("pruner/*.yaml"))])
def test_every_pruner_ends_trials_that_run_beside_each_other(pruner: str, project: Path, fork: Fork) -> None:
    run = fork(project, [*WORDS, *BESIDE, f"pruner={pruner}", "sweep.n_trials=12", "study=some"])
    assert run.returncode == 0, run.stderr
    told = events(project / "mlruns" / "studies" / "some", "trial_ended")
    assert len(told) == 12
    assert {event["state"] for event in told} == ({"complete"} if pruner == "none" else {"complete", "pruned"})


def test_answers_come_in_the_order_of_their_moments_however_long_they_take(
    workshop: TrainingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform = TrialRunner.perform

    def slowly(bench: TrialRunner, task: Task) -> Any:
        time.sleep(0.2 if hasattr(bench, "job") and bench.job.number == 0 else 0)  # the first trial is the last to answer
        return perform(bench, task)

    monkeypatch.setattr(TrialRunner, "perform", slowly)
    with Threads(workshop, 2, StudyRecord()) as does:
        for number in (0, 1):
            does.give(number, StartTrial(job(number), None))
        order = []
        for _ in range(8):
            number, _answer = answered(does, Nobody())
            order.append((number, does.moment))
            done = sum(each == number for each, _ in order)
            if done < 4:
                does.give(number, (TrainUntil(1), TrainUntil(2), Evaluate())[done - 1])
    assert order == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)]


def test_a_trial_gone_on_with_at_its_last_epoch_is_scored_at_the_moment_at_which_it_was(workshop: TrainingContext, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    bench = TrialRunner(workshop, Nobody())
    bench.perform(StartTrial(job(0), None))
    bench.perform(TrainUntil(2))
    bench.checkpoint.save(path)
    record = fold(
        [
            {"event": "trial_asked", "trial": 0, "logical_time": 3},
            {"event": "epochs_reported", "trial": 0, "epochs": [{"epoch": 1}], "value": 1.0, "logical_time": 5},
        ]
    )
    with Threads(workshop, 2, record) as does:
        does.give(0, StartTrial(job(0), path))
        assert answered(does, Nobody()) == (0, 2)
        does.give(0, Evaluate())
        answered(does, Nobody())
    assert does.moment == 6


def test_a_failure_is_the_trials_alone_and_an_error_is_raised_where_it_is_asked_for(workshop: TrainingContext) -> None:
    with Threads(workshop, 2, StudyRecord()) as does:
        does.give(0, StartTrial(job(0, learning_rate=1e38, weight_decay=1e38), None))
        does.give(1, StartTrial(job(1, batch_per_replica=100000), None))
        assert {answered(does, Nobody())[0], answered(does, Nobody())[0]} == {0, 1}
        does.give(0, TrainUntil(2))
        assert isinstance(answered(does, Nobody())[1], TrialFailed)
        does.give(1, TrainUntil(1))
        with pytest.raises(ConfigError, match="100000 is more than"):
            answered(does, Nobody())


def test_a_training_that_is_late_is_left_at_its_checkpoint(workshop: TrainingContext) -> None:
    attendant = Nobody(late=True)
    with Threads(workshop, 2, StudyRecord()) as does:
        does.give(4, StartTrial(job(4, epochs=3), None))
        assert answered(does, attendant) == (4, 0)
        does.give(4, TrainUntil(1))
        assert answered(does, attendant)[0] == 4
        does.give(4, TrainUntil(2))
        assert answered(does, attendant) == (4, Paused())
    assert attendant.stored == [4]


def test_hosts_that_train_together_have_no_trials_beside_each_other() -> None:
    with pytest.raises(ConfigError, match=r"sweep\.workers=1"):
        compose([*BESIDE, "cluster.coordinator=localhost:1", "cluster.hosts=2"])
